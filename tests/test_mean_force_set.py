"""Which frames mean forces are taken at, their files, and the error of a potential on them."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.generate.frame_choice import choose_frames, similarity_strata
from cgbench.generate.mean_force_set import (
    MeanForceSet,
    MeanForceSettings,
    mean_force_error,
    read_mean_forces,
    write_mean_forces,
)


class TestChoice:
    @given(seed=st.integers(0, 100), n=st.integers(1, 30))
    def test_strata_share_alike(self, seed: int, n: int) -> None:
        generator = np.random.default_rng(seed)
        coordinates = generator.normal(size=(30, 6, 3))
        strata = np.repeat([0, 1, 2], [3, 9, 18])
        for method in ("k-centres", "random"):
            chosen = choose_frames(coordinates, n, strata=strata, method=method, seed=seed)  # type: ignore[arg-type]
            assert len(np.unique(chosen)) == n
            assert (np.diff(chosen) > 0).all()
            counts = np.bincount(strata[chosen], minlength=3)
            assert counts[0] == min(3, -(-n // 3))
            if counts[1] < 9:
                assert 0 <= counts[1] - counts[2] <= 1

    def test_centres_cover(self) -> None:
        # Three tight clusters: three centres find one of each, wherever they begin.
        generator = np.random.default_rng(0)
        shapes = generator.normal(size=(3, 8, 3)) * 5
        cluster = np.repeat([0, 1, 2], [60, 3, 2])
        coordinates = shapes[cluster] + generator.normal(size=(65, 8, 3)) * 0.01
        for seed in range(5):
            chosen = choose_frames(coordinates, 3, seed=seed)
            assert sorted(cluster[chosen]) == [0, 1, 2]

    def test_the_same_seed_the_same_frames(self) -> None:
        coordinates = np.random.default_rng(0).normal(size=(50, 6, 3))
        np.testing.assert_array_equal(
            choose_frames(coordinates, 5, seed=3), choose_frames(coordinates, 5, seed=3)
        )
        assert (choose_frames(coordinates, 5) != choose_frames(coordinates, 5, seed=1)).any()

    def test_blocks_do_not_change_the_choice(self, monkeypatch: pytest.MonkeyPatch) -> None:
        coordinates = np.random.default_rng(0).normal(size=(50, 6, 3))
        whole = choose_frames(coordinates, 7)
        monkeypatch.setattr("cgbench.generate.frame_choice._BLOCK_NUMBERS", 100)
        np.testing.assert_array_equal(choose_frames(coordinates, 7), whole)

    def test_copies_and_short_chains(self) -> None:
        assert choose_frames(np.zeros((5, 2, 3)), 5).tolist() == [0, 1, 2, 3, 4]

    def test_similarity(self) -> None:
        native = np.random.default_rng(0).normal(size=(6, 3)) * 4
        scale = np.array([1.0, 3.0, 1.1, 2.0])
        strata = similarity_strata(native * scale[:, None, None], native, 2)
        assert strata.tolist() == [0, 1, 0, 1]
        turned = np.stack([native @ np.linalg.qr(native[:3])[0], native * 2])
        assert similarity_strata(turned, native, 2).tolist() == [0, 1]

    def test_errors(self) -> None:
        coordinates = np.zeros((5, 6, 3))
        for n in (0, 6):
            with pytest.raises(UsageError, match="number"):
                choose_frames(coordinates, n)
        with pytest.raises(UsageError, match="no method"):
            choose_frames(coordinates, 2, method="best")  # type: ignore[arg-type]
        with pytest.raises(ValidationError, match="wrong shapes"):
            choose_frames(coordinates, 2, strata=[0, 1])
        with pytest.raises(ValidationError, match="another shape"):
            similarity_strata(coordinates, np.zeros((5, 3)))
        with pytest.raises(UsageError, match="strata"):
            similarity_strata(coordinates, np.zeros((6, 3)), 0)


def synthetic(folder: Path, n: int = 300, error: float = 0.5, seed: int = 0) -> MeanForceSet:
    """A set with known true forces: those of another generator with the same seed."""
    generator = np.random.default_rng(seed)
    true = generator.normal(size=(n, 4, 3)) * 5
    arrays = {
        "frames": np.arange(n),
        "coordinates": true,
        "mean_forces": true + error * generator.normal(size=true.shape),
        "standard_errors": np.full(true.shape, error),
        "block_errors": np.full(true.shape, error),
    }
    record = {
        "settings": MeanForceSettings(),
        "force_map": "optimal",
        "drift": 0.0,
        "plan": "sha256:0",
    }
    return write_mean_forces(folder, arrays, record)


class TestScore:
    def test_the_noise_of_the_set_is_taken_out(self, tmp_path: Path) -> None:
        dataset = synthetic(tmp_path)
        true = dataset.coordinates
        perfect = mean_force_error(true, dataset)
        assert perfect.standard_error is not None
        assert perfect.mean_square == pytest.approx(0.25, rel=0.1)
        assert abs(perfect.corrected) < 4 * perfect.standard_error
        off = true + 0.3 * np.random.default_rng(9).normal(size=true.shape)
        found = mean_force_error(off, dataset)
        assert found.corrected == pytest.approx(0.09, abs=0.03)
        assert found.zero_force == pytest.approx(25, rel=0.1)
        assert found.explained == pytest.approx(1 - 0.09 / 25, abs=2e-3)
        nothing = mean_force_error(np.zeros_like(true), dataset)
        assert nothing.explained == pytest.approx(0)

    def test_errors(self, tmp_path: Path) -> None:
        dataset = synthetic(tmp_path, 2)
        with pytest.raises(ValidationError, match="wrong shape"):
            mean_force_error(np.zeros((2, 3, 3)), dataset)
        with pytest.raises(ValidationError, match="not finite"):
            mean_force_error(np.full((2, 4, 3), np.nan), dataset)


class TestSubset:
    def test_the_part_of_a_split(self, tmp_path: Path) -> None:
        dataset = synthetic(tmp_path, 10)
        part = dataset.subset([3, 700, 5])
        assert part.frames.tolist() == [3, 5]
        np.testing.assert_array_equal(part.mean_forces, dataset.mean_forces[[3, 5]])
        assert mean_force_error(part.coordinates, part).n_frames == 2
        with pytest.raises(UsageError, match="not one frame"):
            dataset.subset([99])


class TestFiles:
    def test_round_trip(self, tmp_path: Path) -> None:
        made, read = synthetic(tmp_path), read_mean_forces(tmp_path)
        assert read.record == made.record
        np.testing.assert_array_equal(read.mean_forces, made.mean_forces)
        assert read.frames.dtype == np.int64

    def test_damage(self, tmp_path: Path) -> None:
        synthetic(tmp_path, 3)
        record = json.loads((tmp_path / "mean_forces.json").read_text())
        (tmp_path / "mean_forces.json").write_text(json.dumps({**record, "n_beads": 5}))
        with pytest.raises(ValidationError, match="wrong shape"):
            read_mean_forces(tmp_path)
        (tmp_path / "mean_forces.json").write_text(json.dumps({**record, "version": 2}))
        with pytest.raises(ValidationError, match="version"):
            read_mean_forces(tmp_path)
        (tmp_path / "mean_forces.json").write_text(json.dumps(record))
        data = bytearray((tmp_path / "mean_forces.npz").read_bytes())
        data[100] ^= 1
        (tmp_path / "mean_forces.npz").write_bytes(data)
        with pytest.raises(IntegrityError, match="describes"):
            read_mean_forces(tmp_path)
