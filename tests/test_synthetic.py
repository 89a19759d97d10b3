"""Synthetic stores: their forces, labels and splits, what resumes, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cgbench import config, registry
from cgbench.errors import SimulationError, UsageError, ValidationError
from cgbench.evaluate import Ensemble, failed, read_reference, score
from cgbench.evaluate.native import read_native
from cgbench.models import GoModel, load_model
from cgbench.pipeline.forces import force_errors
from cgbench.pipeline.mutant_outcomes import absent, without_row
from cgbench.pipeline.mutant_screening import window_of
from cgbench.pipeline.mutants import _synthetic
from cgbench.results import SystemResult
from cgbench.splits import find_problems, read_split
from cgbench.store import find_reference, find_split, open_store, verify_store
from cgbench.testing import synthetic
from cgbench.testing.synthetic import build_stores, build_system, generating_model, record_path
from cgbench.testing.synthetic_natives import (
    PROTEINS,
    SCALES,
    VARIANTS,
    calibrated_scale,
    chain_of,
    prepare_native,
    scale_of,
)
from cgbench.testing.synthetic_settings import SyntheticSettings
from cgbench.train.folding import FoldingCurve
from cgbench.train.kinds import as_config, train

SMALL = SyntheticSettings(
    n_trajectories=16, length=16.0, skipped=1.6, n_microstates=8, n_resamples=3
)


@pytest.fixture(scope="module")
def published(published_dir: Path) -> Path:
    return published_dir


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small synthetic chignolin."""
    import os

    folder = os.environ.get("CGBENCH_TEST_DATA")
    if not folder or not (Path(folder) / "published").is_dir():
        pytest.skip("needs the native structures named by CGBENCH_TEST_DATA")
    made = tmp_path_factory.mktemp("synthetic")
    build_system(made, "chignolin", SMALL, published=Path(folder) / "published")
    return made


def test_forces_are_those_of_the_generating_potential(home: Path) -> None:
    store = open_store("chignolin", home)
    assert store.n_frames == 16 * 20
    assert store.n_beads == 10
    model = load_model(generating_model(home, "chignolin"), dtype=torch.float64)
    assert isinstance(model.network, GoModel)
    assert float(model.network.scale[0]) == pytest.approx(SCALES["chignolin"])
    pos = torch.from_numpy(store.coordinates().astype(np.float64))
    types = torch.from_numpy(np.asarray(store.bead_types))
    # By differences of the energy: independent of the forces' own formula.
    direction = torch.from_numpy(np.random.default_rng(0).normal(size=pos.shape))
    up, down = (
        model.chains(types, pos + sign * 1e-5 * direction).network_energy for sign in (1.0, -1.0)
    )
    work = -(torch.from_numpy(store.forces().astype(np.float64)) * direction).sum((1, 2))
    assert ((up - down) / 2e-5).numpy() == pytest.approx(work.numpy(), rel=1e-4, abs=1e-3)


def test_a_perfect_model_has_no_loss(home: Path) -> None:
    errors = force_errors(load_model(generating_model(home, "chignolin")), "chignolin", home=home)
    assert errors.squared.sum() / errors.count.sum() < 1e-8
    other = load_model(generating_model(home, "chignolin"))
    other.network.scale.data *= 1.01
    worse = force_errors(other, "chignolin", home=home)
    assert worse.squared.sum() / worse.count.sum() > 1e-4


def test_everything_is_marked_synthetic(home: Path) -> None:
    store = open_store("chignolin", home)
    assert store.metadata.synthetic
    assert dict(store.dataset().attrs)["synthetic"]
    assert "ynthetic" in store.metadata.name
    assert str(store.metadata.description).startswith("Synthetic")
    assert verify_store(store.path).ok
    bundle = read_reference(find_reference("chignolin", home))
    assert bundle.metadata.synthetic
    frames = [store.coordinates(*map(int, bounds)) for bounds in store.trajectory_bounds]
    ensemble = Ensemble.from_arrays(
        "chignolin", frames, frame_interval=store.metadata.frame_interval
    )
    row = score(ensemble, bundle, protocol=SMALL.protocol(), seed=1, n_resamples=2, workers=1)
    assert row.result.synthetic
    assert failed("x", "chignolin", "broken", seed=1, synthetic=True).result.synthetic
    # What is stored of results says so, and old ones without the field are of reference data.
    assert SystemResult.model_validate_json(row.result.model_dump_json()).synthetic
    assert not SystemResult(system="chignolin", status="missing", reason="not here").synthetic


def test_variants_are_marked_in_their_first_stage_too(home: Path) -> None:
    one = registry.mutants()[0]
    assert not _synthetic([one], home)
    assert _synthetic([one.model_copy(update={"parent": "chignolin"})], home)
    for status in ("missing", "stays", "unfolds"):
        outcome = absent(one, "a reason").model_copy(update={"status": status})
        assert without_row(outcome, synthetic=True).synthetic
        assert not without_row(outcome).synthetic
    # A shorter first stage is looked at from its middle on.
    registered = registry.protocol(registry.mutant_screening().protocol)
    assert window_of(registered) == registry.mutant_screening().window_ps
    assert window_of(registered.model_copy(update={"length": 30.0})) == 15.0


def test_reference_data_keep_their_fingerprints() -> None:
    """Stores and bundles that are not synthetic do not mention it."""
    assert "synthetic" not in open_store("chignolin-sample").metadata.attributes()
    bundle = read_reference(find_reference("chignolin-sample"))
    assert "synthetic" not in bundle.metadata.model_dump(mode="json")


def test_splits_hold_both_kinds_of_start_and_leave_proteins_out(home: Path) -> None:
    store = open_store("chignolin", home)
    for split_id in ("block-v1", "lopo-chignolin", "lopo-lambda"):
        split = read_split(find_split("chignolin", split_id, home))
        assert find_problems(split, store) == []
    canonical = read_split(find_split("chignolin", "block-v1", home))
    kinds = np.array(store.metadata.start_kind)
    for part in ("train", "val", "test"):
        chosen = kinds[store.trajectory[canonical.frames(part)]]
        assert set(chosen) == {"native", "unfolded"}
    left_out = read_split(find_split("chignolin", "lopo-chignolin", home))
    assert len(left_out.frames("train")) == 0
    assert len(left_out.frames("test")) == store.n_frames


def test_what_is_there_is_kept_and_other_settings_are_made_anew(
    home: Path, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise SimulationError("simulated again")

    monkeypatch.setattr(synthetic, "simulate", fail)
    before = record_path(home, "chignolin").read_bytes()
    (record,) = build_stores(home, ["chignolin"], SMALL, published=published)
    assert record.n_frames == 320
    assert record_path(home, "chignolin").read_bytes() == before
    with pytest.raises(SimulationError, match="simulated again"):
        build_stores(home, ["chignolin"], SMALL.model_copy(update={"seed": 2}), published=published)


def test_an_interrupted_build_goes_on_to_the_same_store(
    home: Path, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(synthetic, "build_from_store", killed)
        with pytest.raises(KeyboardInterrupt):
            build_system(tmp_path, "chignolin", SMALL, published=published)
    assert not record_path(tmp_path, "chignolin").exists()
    build_system(tmp_path, "chignolin", SMALL, published=published)
    found, expected = (open_store("chignolin", one) for one in (tmp_path, home))
    assert found.fingerprint == expected.fingerprint
    assert not (tmp_path / "synthetic" / "chignolin").exists()


def test_a_home_with_real_data_is_left_alone(published: Path, tmp_path: Path) -> None:
    real = open_store("chignolin-sample").path
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "chignolin.zarr").symlink_to(real)
    with pytest.raises(UsageError, match="not synthetic"):
        build_stores(tmp_path, ["chignolin"], SMALL, published=published)


def test_natives_are_taken_from_where_they_are(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for system in (*PROTEINS, *VARIANTS):
        path = prepare_native(tmp_path / "made", system, published)
        chain, sequence = chain_of(system, tmp_path / "made")
        # Two were simulated with other residues than their entries have.
        assert read_native(path, sequence).shape == (len(chain.bead_types), 3)
    monkeypatch.setenv("CGBENCH_HOME", str(tmp_path / "made"))
    variant = "homeodomain-1P7I"
    assert prepare_native(tmp_path / "copied", variant, None).is_file()
    assert (tmp_path / "copied" / "native" / f"{variant}.json").is_file()
    monkeypatch.setenv("CGBENCH_HOME", str(tmp_path / "empty"))
    with pytest.raises(UsageError, match="no native structure") as error:
        prepare_native(tmp_path / "other", "lambda", None)
    assert error.value.fix == "cgbench download lambda"


def test_energies_are_known_for_the_twelve_and_their_variants() -> None:
    assert set(PROTEINS) == {one.key for one in registry.systems() if one.published_key}
    assert all(0.5 < scale < 1.2 for scale in SCALES.values())
    assert scale_of("homeodomain-1P7I") == SCALES["homeodomain"]
    with pytest.raises(UsageError, match="no synthetic system"):
        scale_of("chignolin-sample")


def test_a_go_model_of_the_store_finds_its_energy(home: Path, tmp_path: Path) -> None:
    data = {"kind": "go-model", "name": "go-model/x", "system": "chignolin", "scale": "forces"}
    outcome = train(as_config(data, "test"), tmp_path / "forces", home=home)
    assert outcome.explained > 0.999999
    model = load_model(tmp_path / "forces" / "model.pt")
    assert float(model.network.scale[0]) == pytest.approx(SCALES["chignolin"], rel=1e-5)
    assert "no prediction" in model.spec.description
    given = train(as_config({**data, "scale": 0.9}, "test"), tmp_path / "given", home=home)
    # The error of a wrong energy is its relative error, squared, of all that there is.
    wrong = (0.9 / SCALES["chignolin"] - 1.0) ** 2
    assert 1.0 - given.explained == pytest.approx(wrong, rel=1e-4)


def test_a_go_model_is_given_the_folded_population(home: Path, tmp_path: Path) -> None:
    data = {
        "kind": "go-model",
        "name": "go-model/x",
        "system": "chignolin",
        "calibration": {"length": 8.0, "n_scales": 4, "scales": [0.4, 2.0]},
    }
    train(as_config(data, "test"), tmp_path, home=home)
    model = load_model(tmp_path / "model.pt")
    curve = config.read_model(FoldingCurve, tmp_path / "calibration" / "chignolin.json")
    population = read_reference(find_reference("chignolin", home)).metadata.folded_population
    assert float(model.network.scale[0]) == pytest.approx(curve.scale_at(population.value))
    assert curve.scales[0] == pytest.approx(0.4, rel=1e-4)
    assert curve.populations[0] < curve.populations[-1]
    assert not (tmp_path / "calibration" / "chignolin").exists()


def test_the_scale_of_a_population_is_between_its_neighbours() -> None:
    curve = FoldingCurve(
        temperature=350.0,
        scales=(0.6, 0.7, 0.8, 0.9),
        populations=(0.1, 0.5, 0.4, 0.9),
        frames=(100, 100, 100, 100),
    )
    # Neighbours that go down are one of 0.45.
    assert 0.7 <= curve.scale_at(0.45) <= 0.8
    assert curve.scale_at(0.1) == pytest.approx(0.6)
    half = curve.model_copy(update={"scales": (0.6, 0.8), "populations": (0.2, 0.8)})
    assert half.model_copy(update={"frames": (9, 9)}).scale_at(0.5) == pytest.approx(0.48**0.5)
    with pytest.raises(ValidationError, match="no energy of the Gō model"):
        curve.scale_at(0.95)


def test_energies_are_found_by_simulation(home: Path, tmp_path: Path) -> None:
    found = calibrated_scale(home, "chignolin", tmp_path, length=16.0)
    assert found == pytest.approx(SCALES["chignolin"], abs=0.15)
