"""From files of structures to results: what the command does, keeps, says and refuses."""

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_ensembles import SEQUENCE, SYSTEM, beads_topology, chains, write
from typer.testing import CliRunner

import cgbench.pipeline.evaluate_ensemble as module
from cgbench import registry
from cgbench.cli.main import app
from cgbench.errors import UsageError, ValidationError
from cgbench.evaluate import (
    Ensemble,
    ReferenceBundle,
    ReferenceStatistics,
    Scored,
    reference_statistics,
)
from cgbench.evaluate.raw_ensemble import RawEnsemble
from cgbench.pipeline.evaluate_ensemble import EnsembleOptions, evaluate_ensemble
from cgbench.pipeline.specs import sampler_specs
from cgbench.results import read_result
from cgbench.store import open_store

SCORE = module.score
STATISTICS: dict[tuple[str, int], ReferenceStatistics] = {}


def quick_score(ensemble: Ensemble, bundle: ReferenceBundle, **options: Any) -> Scored:
    """Score with few resamples, the reference's made once for each bundle and seed."""
    key = (bundle.fingerprint, options["seed"])
    if key not in STATISTICS:
        STATISTICS[key] = reference_statistics(bundle, seed=options["seed"], n_resamples=2)
    return SCORE(ensemble, bundle, reference=STATISTICS[key], **options)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few resamples and no page: numbers are tested elsewhere."""
    monkeypatch.setattr(module, "score", quick_score)
    monkeypatch.setattr(module, "report_runs", lambda *_, **__: None)


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return open_store(SYSTEM).coordinates()[::60][:840]


def test_samples_of_an_npz(tmp_path: Path, frames: np.ndarray) -> None:
    np.savez(tmp_path / "mine.npz", coordinates=frames)
    result = evaluate_ensemble(tmp_path / "mine.npz", [SYSTEM], out=tmp_path / "run")
    assert read_result(tmp_path / "run" / "result.json") == result
    assert (result.model.name, result.model.kind, result.model.hash) == ("mine", "ensemble", None)
    assert result.protocol is None
    (system,) = result.systems
    assert (system.status, system.weights_status) == ("ok", "uniform")
    assert system.metrics["novelty"].value < 0.5
    assert system.metrics["replicas_alive"].status == "n/a"
    assert any("32 blocks" in note for note in system.notes)
    assert any("built from all trajectories" in note for note in system.notes)
    assert set(result.timings) >= {f"read/{SYSTEM}", f"score/{SYSTEM}", f"novelty/{SYSTEM}"}


def test_a_row_is_kept_until_something_changes(
    tmp_path: Path, frames: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.npz"
    np.savez(path, coordinates=frames)
    monkeypatch.setattr(module, "with_novelty", lambda row, *_, **__: row)
    scored = []
    original = module.score

    def counted(*arguments: object, **options: object) -> object:
        scored.append(1)
        return original(*arguments, **options)

    monkeypatch.setattr(module, "score", counted)
    run = partial(evaluate_ensemble, path, [SYSTEM], out=tmp_path / "run")
    first = run()
    assert run().systems == first.systems
    assert len(scored) == 1
    run(force=True)
    run(options=EnsembleOptions(frame_interval=0.1))
    assert len(scored) == 3
    np.savez(path, coordinates=frames[:400])
    os.utime(path, ns=(1, 1))
    assert run().systems[0].n_frames == 400
    assert len(scored) == 4


def test_options_reach_the_ensemble(tmp_path: Path, frames: np.ndarray) -> None:
    for number, part in enumerate(np.array_split(frames, 4)):
        write(tmp_path / f"{number}.xtc", part, beads_topology())
    top = write(tmp_path / "top.pdb", frames[:1], beads_topology())
    said = EnsembleOptions(topology=top, frame_interval=0.5, name="dynamics")
    result = evaluate_ensemble(tmp_path, [SYSTEM], options=said, out=tmp_path / "run")
    (system,) = result.systems
    assert result.model.name == "dynamics"
    assert system.n_trajectories == 4
    assert "novelty" not in system.metrics
    assert system.metrics["replicas_alive"].value == 1.0
    weights = tmp_path / "w.npy"
    np.save(weights, np.ones(len(frames)))
    said = EnsembleOptions(weights=weights)
    weighted = evaluate_ensemble(tmp_path / "?.xtc", [SYSTEM], options=said, out=tmp_path / "w")
    assert weighted.systems[0].weights_status == "given"


def test_one_bad_system_does_not_hide_the_other(tmp_path: Path, frames: np.ndarray) -> None:
    trpcage = registry.system("trpcage")
    other = np.cumsum(np.full((3, 20, 3), 2.2, np.float32), axis=1)
    np.savez(tmp_path / "b.npz", coordinates=other, sequence=trpcage.sequence)
    np.savez(tmp_path / "a.npz", coordinates=frames)
    result = evaluate_ensemble(tmp_path, [SYSTEM, "trpcage"], out=tmp_path / "run")
    by_key = {system.system: system for system in result.systems}
    assert by_key[SYSTEM].status == "ok"
    assert by_key["trpcage"].status == "missing"
    assert "cgbench reference build trpcage" in by_key["trpcage"].reason


def test_what_cannot_be_read_is_raised(tmp_path: Path, frames: np.ndarray) -> None:
    np.savez(tmp_path / "a.npz", coordinates=frames / 10.0)
    with pytest.raises(ValidationError, match="nanometres"):
        evaluate_ensemble(tmp_path / "a.npz", [SYSTEM], out=tmp_path / "run")
    with pytest.raises(UsageError, match="no such file or folder"):
        evaluate_ensemble(tmp_path / "none.npz", [SYSTEM], out=tmp_path / "run")
    with pytest.raises(UsageError):
        evaluate_ensemble(tmp_path / "a.npz", ["chignolinn"], out=tmp_path / "run")


def test_the_command(tmp_path: Path, frames: np.ndarray) -> None:
    np.savez(tmp_path / "a.npz", trajectories=frames[:800].reshape(8, 100, 10, 3), energy=0.0)
    asked = ["evaluate", "--ensemble", str(tmp_path / "a.npz"), "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(app, [*asked, "--system", SYSTEM])
    assert isinstance(done.exception, ValidationError)
    np.savez(tmp_path / "a.npz", trajectories=frames[:800].reshape(8, 100, 10, 3))
    done = CliRunner().invoke(app, [*asked, "--system", SYSTEM, "--name", "mine", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["model"]["name"] == "mine"
    done = CliRunner().invoke(app, asked)
    assert isinstance(done.exception, UsageError)
    assert "give --system" in done.exception.message


def test_specs_say_what_to_produce() -> None:
    (sheet,) = sampler_specs([SYSTEM])
    system = registry.system(SYSTEM)
    assert (sheet.sequence, sheet.n_beads) == (SEQUENCE, 10)
    assert sheet.residues[0] == "TYR"
    assert sheet.temperature == system.temperature
    assert (sheet.reference, sheet.training, sheet.fix) == (True, True, None)
    every = {metric.id for metric in registry.metrics()}
    assert set(sheet.scored) | set(sheet.not_applicable) == every
    assert "novelty" in sheet.scored
    assert "replicas_alive" in sheet.not_applicable
    assert SYSTEM in sheet.command
    missing = sampler_specs(["lambda"])[0]
    assert not missing.reference
    assert "cgbench reference build lambda" in str(missing.fix)
    with pytest.raises(UsageError, match="no noise floor"):
        sampler_specs(["lambda"], noise_floor=100)
    with pytest.raises(UsageError):
        sampler_specs(["chignolinn"])
    assert len(sampler_specs()) == len(registry.systems())


def test_the_specs_command() -> None:
    done = CliRunner().invoke(app, ["specs", "bba"])
    assert done.exit_code == 0, done.output
    for word in ("28 Cα atoms", "350 K", "coordinates Å", "--ensemble", "replicas_alive"):
        assert word in done.stdout
    done = CliRunner().invoke(app, ["specs", "bba", SYSTEM, "--json"])
    assert [one["system"] for one in json.loads(done.stdout)] == ["bba", SYSTEM]
    assert "villin" in CliRunner().invoke(app, ["specs"]).stdout


def test_a_pool_of_a_hundred_thousand_samples_is_not_copied() -> None:
    """Blocks of a pool, and an ensemble of good frames, are views of the one array."""
    pool = np.ascontiguousarray(np.tile(chains(1000), (100, 1, 1)))
    raw = RawEnsemble([pool], grouped=False).in_blocks()
    ensemble = Ensemble.from_arrays(SYSTEM, raw.trajectories)
    assert all(np.shares_memory(part, pool) for part in ensemble.trajectories)
    assert ensemble.n_frames == 100_000
