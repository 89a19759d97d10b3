"""Replica exchange of a real peptide: restart, weights, and the raw files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_peptide import ONE_THREAD, settings, source

from cgbench.errors import SimulationError, UsageError
from cgbench.generate import replicas
from cgbench.generate.campaign import Budget
from cgbench.generate.replica_files import ExchangeCard
from cgbench.generate.replicas import run_replica_exchange
from cgbench.generate.simulate import Engine
from cgbench.ingest.recipe import read_recipe
from cgbench.units import thermal_energy

LADDER = (350.0, 352.0, 354.0)


def run(out: Path, segments: int, **changes: Any) -> ExchangeCard:
    return run_replica_exchange(
        settings(ladder=LADDER, exchange_interval=0.02, **changes),
        source(),
        out,
        budget=Budget(trajectories=segments),
        machine=ONE_THREAD,
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exchange") / "whole"
    run(out, 3)
    return out


def test_the_files_of_an_exchange(whole: Path) -> None:
    states, energies = np.load(whole / "states.npy"), np.load(whole / "energies.npy")
    assert states.shape == energies.shape == (3, 15)
    assert (np.sort(states, axis=0) == np.arange(3)[:, None]).all()
    weights = np.load(whole / "weights.npy")
    assert weights.shape == (45,)
    assert weights.sum() == pytest.approx(1.0)
    coordinates = np.load(whole / "peptide_ca_coords.npy")
    assert coordinates.shape == (45, 4, 3)
    index = json.loads((whole / "trajectories.json").read_text())
    assert index["lengths"] == [15, 15, 15]
    assert index["replica"] == [0, 1, 2]
    assert index["started_from"] == ["native", "coil", "native"]
    card = ExchangeCard.model_validate_json((whole / "generation.json").read_text())
    assert card.nanoseconds == pytest.approx(9e-4)
    # Temperatures so close swap nearly always.
    assert all(one is not None and one > 0.4 for one in card.acceptance)
    assert max(card.visited) == 3
    # A replica changes temperature: nothing may take its frames for dynamics at one.
    assert read_recipe(whole / "recipe.yaml").frame_interval is None


def test_segments_join_without_a_jump(whole: Path) -> None:
    coordinates = np.load(whole / "peptide_ca_coords.npy").reshape(3, 15, 4, 3)
    steps = np.linalg.norm(np.diff(coordinates, axis=1), axis=-1).max(axis=(0, 2))
    joints = steps[[4, 9]]
    assert joints.max() < 2 * np.median(steps) + 0.2


def test_an_interrupted_exchange_goes_on(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "steps"
    run(out, 1)
    # A segment whose record is missing was killed before it was finished.
    (out / "segments" / "000001.npz").write_bytes(b"cut off")
    run(out, 3)
    for name in ("states.npy", "energies.npy", "weights.npy", "peptide_ca_coords.npy"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()


def test_threads_do_not_matter(whole: Path, tmp_path: Path) -> None:
    run_replica_exchange(
        settings(ladder=LADDER, exchange_interval=0.02), source(), tmp_path / "x",
        budget=Budget(trajectories=1), machine=ONE_THREAD, workers=3,
    )  # fmt: skip
    np.testing.assert_array_equal(
        np.load(tmp_path / "x/energies.npy"), np.load(whole / "energies.npy")[:, :5]
    )


def test_velocities_follow_the_temperature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scales = []
    real = Engine.set_velocities

    def watched(self: Any, velocities: Any) -> None:
        scales.append(float(np.sqrt((velocities**2).mean() / (self.velocities() ** 2).mean())))
        real(self, velocities)

    monkeypatch.setattr(Engine, "set_velocities", watched)
    run_replica_exchange(
        settings(ladder=(350.0, 360.5), exchange_interval=0.02), source(), tmp_path / "x",
        budget=Budget(trajectories=1), machine=ONE_THREAD,
    )  # fmt: skip
    up, down = np.sqrt(360.5 / 350), np.sqrt(350 / 360.5)
    assert scales
    assert all(min(abs(one - up), abs(one - down)) < 1e-6 for one in scales)
    assert thermal_energy(360.5) / thermal_energy(350.0) == pytest.approx(up**2)


def test_a_segment_that_diverges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = replicas._advance, []

    def fails_once(*arguments: Any) -> Any:
        calls.append(arguments[3].timestep)
        if len(calls) == 1:
            raise SimulationError("the integration diverged", found="NaN")
        return real(*arguments)

    monkeypatch.setattr(replicas, "_advance", fails_once)
    card = run(tmp_path / "x", 1)
    assert len(card.divergences) == 1

    def fails(*arguments: Any) -> Any:
        raise SimulationError("the integration diverged", found="NaN")

    monkeypatch.setattr(replicas, "_advance", fails)
    with pytest.raises(SimulationError, match="segment 1 diverged at every attempt"):
        run(tmp_path / "x", 2)


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ascending"):
        settings(ladder=(400.0, 350.0))
    with pytest.raises(ValueError, match="outside the ladder"):
        settings(ladder=(400.0, 450.0))
    with pytest.raises(ValueError, match="exchange_interval"):
        settings(ladder=LADDER, exchange_interval=0.03)
    with pytest.raises(UsageError, match="implicit"):
        run(tmp_path, 1, system={"force_field": "amber14-tip3p"})
