"""Runs of adaptive sampling: plan, restart after a kill, divergence, and the raw files."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_peptide import ONE_THREAD, SEQUENCE, frames, settings, source

from cgbench.config import read_model
from cgbench.errors import IntegrityError, SimulationError, UsageError
from cgbench.generate import campaign, planning, trajectory
from cgbench.generate.campaign import Budget, generate
from cgbench.generate.folder import Plan, RunFolder
from cgbench.generate.settings import DynamicsSettings, SystemSettings
from cgbench.generate.simulate import Engine
from cgbench.generate.system import alpha_carbons
from cgbench.ingest.recipe import read_recipe


def run(out: Path, number: int, **changes: Any) -> Any:
    how = {name: changes.pop(name) for name in ("earlier", "include_earlier", "discard_all_atom")
           if name in changes}  # fmt: skip
    return generate(
        settings(**changes),
        source(),
        out,
        budget=Budget(trajectories=number),
        machine=ONE_THREAD,
        **how,
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rounds, without interruption."""
    out = tmp_path_factory.mktemp("generate") / "whole"
    run(out, 8)
    return out


def test_what_a_run_records(whole: Path) -> None:
    card = json.loads((whole / "generation.json").read_text())
    assert card["n_finished"] == 8
    assert card["nanoseconds"] == pytest.approx(8e-4)
    assert card["started_from"] == {"adaptive": 3, "coil": 3, "native": 2}
    assert card["failures"] == []
    assert card["packages"]["openmm"]
    assert card["nanoseconds_per_day"] > 0
    index = json.loads((whole / "trajectories.json").read_text())
    assert index["lengths"] == [5] * 8
    assert index["started_from"][:5] == ["native", "coil", "native", "coil", "coil"]
    assert index["started_from"][5:] == ["adaptive"] * 3
    assert all(0 <= parent < 4 for parent in index["parent"][5:])
    text = (whole / "README.md").read_text()
    assert "350 K" in text
    assert "ff99SB-ILDN" in text


def test_raw_files_are_those_of_the_frames(whole: Path) -> None:
    folder = RunFolder(whole)
    topology, _ = folder.starts()
    beads = alpha_carbons(topology)
    arrays = {
        name: np.load(whole / f"peptide_ca_{name}.npy")
        for name in ("coords", "forces", "forces_hydrogens", "forces_optimal", "embeddings")
    }
    assert arrays["embeddings"].tolist() == [1, 2, 12, 1]
    assert {one.shape for name, one in arrays.items() if name != "embeddings"} == {(40, 4, 3)}
    with np.load(whole / "force_map_optimal.npz") as file:
        weights = file["weights"]
    hydrogens = [[b.index, *_hydrogens(topology, b)] for b in topology.atoms() if b.name == "CA"]
    for number in range(8):
        positions, forces = folder.read(number, "positions", "forces")
        part = slice(5 * number, 5 * number + 5)
        np.testing.assert_array_equal(arrays["coords"][part], positions[:, beads])
        np.testing.assert_array_equal(arrays["forces"][part], forces[:, beads])
        summed = np.stack([forces[:, group].sum(axis=1) for group in hydrogens], axis=1)
        np.testing.assert_allclose(arrays["forces_hydrogens"][part], summed, atol=1e-3)
        mapped = np.einsum("ba,fax->fbx", weights, forces)
        np.testing.assert_allclose(arrays["forces_optimal"][part], mapped, atol=1e-2)


def _hydrogens(topology: Any, atom: Any) -> list[int]:
    pairs = [(a, b) for a, b in topology.bonds() if atom in (a, b)]
    others = [b if a == atom else a for a, b in pairs]
    return [one.index for one in others if one.element.symbol == "H"]


def test_trajectories_start_where_the_plan_says(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, started = campaign.run_batch, {}

    def watched(batch: Any, starts: Any, *arguments: Any) -> Any:
        started[batch[0].index] = (batch[0], starts[0])
        return real(batch, starts, *arguments)

    monkeypatch.setattr(campaign, "run_batch", watched)
    out = tmp_path / "x"
    run(out, 7)
    folder = RunFolder(out)
    known = folder.starts()[1]
    for planned, start in started.values():
        if planned.kind == "adaptive":
            (parent,) = folder.read(planned.parent, "positions")
            np.testing.assert_array_equal(start, parent[planned.frame])
            assert planned.parent < 4
        else:
            name = {"native": "native", "coil": "extended"}[planned.kind]
            np.testing.assert_array_equal(start, known[name])
    assert sorted(started) == list(range(7))


def test_the_plan_depends_on_settings_alone(whole: Path, tmp_path: Path) -> None:
    run(tmp_path / "a", 8)
    assert (tmp_path / "a" / "plan.json").read_bytes() == (whole / "plan.json").read_bytes()
    assert frames(tmp_path / "a") == frames(whole)
    one = planning.extend(Plan(), RunFolder(whole), settings(seed=3), None)
    other = planning.extend(Plan(), RunFolder(whole), settings(seed=4), None)
    assert {p.seed for p in one.trajectories}.isdisjoint(p.seed for p in other.trajectories)
    assert len({p.seed for p in one.trajectories}) == 4


def test_large_sets_are_thinned(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = RunFolder(whole).plan()
    monkeypatch.setattr(planning, "_MAXIMUM_NUMBERS", 20)
    grown = planning.extend(plan, RunFolder(whole), settings(), None)
    # Of 8 trajectories of 5 frames with one distance each, every second frame is looked at.
    chosen = [one for one in grown.trajectories[8:] if one.kind == "adaptive"]
    assert len(chosen) == 3
    assert {one.frame for one in chosen} <= {0, 2, 4}


def test_growing_in_steps_gives_the_same(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "steps"
    for number in (1, 6, 8):
        run(out, number)
        assert len(frames(out)) == number
    assert frames(out) == frames(whole)
    for suffix in ("coords", "forces_optimal"):
        name = f"peptide_ca_{suffix}.npy"
        assert (out / name).read_bytes() == (whole / name).read_bytes()


_CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from toy_peptide import ONE_THREAD, settings, source
from cgbench.generate.campaign import Budget, generate
generate(settings(), source(), Path(sys.argv[2]), budget=Budget(trajectories=8), machine=ONE_THREAD)
"""


def test_a_killed_run_goes_on(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    command = [sys.executable, "-c", _CHILD, str(Path(__file__).parent), str(out)]
    for n_records in (2, 5):
        child = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"})
        records = out / "trajectories"
        while child.poll() is None and len(list(records.glob("0*.json"))) < n_records:
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
        child.wait()
        # What a kill in the middle of a write leaves behind is no part of a later run.
        (out / "all_atom" / ".000007.npz.x.partial").write_bytes(b"cut off")
        (out / ".peptide_ca_coords.npy.x.partial").write_bytes(b"cut off")
    kept = frames(out)
    times = {name: (out / "all_atom" / name).stat().st_mtime_ns for name in kept}
    run(out, 8)
    assert frames(out) == frames(whole)
    finished = {f"{path.stem}.npz" for path in (out / "trajectories").glob("*.json")}
    assert finished == set(frames(whole))
    for name, when in times.items():
        if int(name[:6]) < 5:
            assert (out / "all_atom" / name).stat().st_mtime_ns == when
    assert not list(out.rglob("*.partial"))


def test_other_settings_and_other_folders_are_refused(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="other settings") as caught:
        run(whole, 8, seed=4)
    assert "seed 3" in str(caught.value)
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(UsageError, match="something else"):
        run(tmp_path, 8)
    folder = RunFolder(whole)
    with folder.locked(), pytest.raises(UsageError, match="another process"):
        run(whole, 8)


def test_a_damaged_trajectory_is_named(tmp_path: Path) -> None:
    out = tmp_path / "damaged"
    run(out, 4)
    path = RunFolder(out).frames_path(2)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(IntegrityError, match="000002"):
        run(out, 4)


def test_divergence_is_recorded_and_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = trajectory._attempt, []

    def fails_twice(*arguments: Any) -> Any:
        calls.append((arguments[4].timestep, arguments[5]))
        if len(calls) in (2, 3):
            raise SimulationError("the integration diverged", found="NaN")
        return real(*arguments)

    monkeypatch.setattr(trajectory, "_attempt", fails_twice)
    card = run(tmp_path / "x", 2)
    assert [step for step, _ in calls] == [0.004, 0.004, 0.004, 0.002]
    assert len({seed for _, seed in calls}) == 4
    assert [(one.trajectory, one.attempts, one.status) for one in card.failures] == [(1, 2, "ok")]
    record = RunFolder(tmp_path / "x").records()[1]
    assert record.timestep == 0.002
    assert [one.timestep for one in record.divergences] == [0.004, 0.004]
    assert "diverged and were repeated: 1; given up: 0" in (tmp_path / "x/README.md").read_text()


def test_a_trajectory_that_always_diverges_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = trajectory._attempt

    def fails(batch: Any, *arguments: Any) -> Any:
        if batch[0].index == 1:
            raise SimulationError("the integration diverged", found="NaN")
        return real(batch, *arguments)

    monkeypatch.setattr(trajectory, "_attempt", fails)
    card = run(tmp_path / "x", 3)
    assert [one.status for one in card.failures] == ["failed"]
    index = json.loads((tmp_path / "x/trajectories.json").read_text())
    assert index["number"] == [0, 2]


def test_a_run_in_which_all_diverge_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Engine, n_steps: int) -> None:
        raise SimulationError("the integration diverged", found="NaN")

    monkeypatch.setattr(Engine, "step", fails)
    with pytest.raises(SimulationError, match="every trajectory diverged"):
        run(tmp_path / "x", 8)


def test_an_earlier_set_is_continued(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "next"
    card = run(out, 4, earlier=whole, include_earlier=True, raw_sha256="x", seed=9)
    assert card.raw.n_trajectories == 12
    assert card.raw.n_earlier == 8
    plan = read_model(Plan, out / "plan.json")
    adaptive = [one for one in plan.trajectories if one.kind == "adaptive"]
    assert len(adaptive) == 3
    assert all(one.pool for one in adaptive)
    first = np.load(whole / "peptide_ca_forces_optimal.npy")
    joined = np.load(out / "peptide_ca_forces_optimal.npy")
    np.testing.assert_array_equal(joined[:40], first)
    assert joined.shape == (60, 4, 3)
    earlier, own = (np.load(path / "force_map_optimal.npz")["weights"] for path in (whole, out))
    np.testing.assert_array_equal(earlier, own)
    (parent,) = RunFolder(whole).read(adaptive[0].parent or 0, "positions")
    (positions,) = RunFolder(out).read(adaptive[0].index, "positions")
    assert np.linalg.norm(positions[0] - parent[adaptive[0].frame], axis=-1).max() < 1.0


def test_discarded_frames(tmp_path: Path) -> None:
    out = tmp_path / "x"
    run(out, 2, discard_all_atom=True)
    assert frames(out) == {}
    assert np.load(out / "peptide_ca_forces_optimal.npy").shape == (10, 4, 3)
    with pytest.raises(UsageError, match="discarded"):
        run(out, 3)
    card = run(tmp_path / "y", 2, earlier=out, raw_sha256="x")
    assert card.started_from == {"coil": 1, "native": 1}


def test_the_recipe_describes_the_run(whole: Path) -> None:
    recipe = read_recipe(whole / "recipe.yaml")
    assert recipe.key == "peptide"
    assert recipe.sequence == SEQUENCE
    assert recipe.frame_interval == 0.02
    assert recipe.force_maps == {"slice": "no", "hydrogens": "yes", "optimal": "yes"}
    assert recipe.npy is not None
    assert (whole / recipe.npy.coordinates).is_file()
    assert recipe.native == "native.pdb"


def test_time_is_a_budget_too(tmp_path: Path) -> None:
    with pytest.raises(SimulationError, match="no trajectory"):
        generate(settings(), source(), tmp_path, budget=Budget(hours=0.0), machine=ONE_THREAD)


def test_copies_in_one_system(tmp_path: Path) -> None:
    card = run(tmp_path / "x", 6, n_copies=4)
    # The second batch of the second round begins within the budget, so it is finished.
    assert card.n_finished == 8
    records = RunFolder(tmp_path / "x").records()
    assert records[0].batch == (0, 1, 2, 3)
    assert np.isnan(RunFolder(tmp_path / "x").read(0, "energies")[0]).all()


def test_frames_of_another_kind_are_not_included(whole: Path, tmp_path: Path) -> None:
    for number, (changes, match) in enumerate(
        (
            ({"dynamics": DynamicsSettings(frame_interval=0.1)}, "frame interval"),
            ({"dynamics": DynamicsSettings(frame_interval=0.02, temperature=300)}, "temperature"),
            ({"system": SystemSettings(force_field="amber14-obc2")}, "force field"),
        )
    ):
        with pytest.raises(UsageError, match=match):
            run(tmp_path / str(number), 1, earlier=whole, include_earlier=True, **changes)
        assert not (tmp_path / str(number) / "trajectories").exists()


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    code = _CHILD.replace("machine=ONE_THREAD", "machine=ONE_THREAD, workers=2").replace(
        "settings()", "settings(trajectory_length=50.0)"
    )
    code = f"""
import multiprocessing
if __name__ == "__main__":
    {code.strip().replace(chr(10), chr(10) + "    ")}
"""
    script = tmp_path / "child.py"
    script.write_text(code)
    out = tmp_path / "out"
    child = subprocess.Popen(
        [sys.executable, str(script), str(Path(__file__).parent), str(out)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
    )
    workers: set[int] = set()
    while child.poll() is None and not (out / "trajectories/000000.json").is_file():
        workers |= _children(child.pid)
        time.sleep(0.05)
    assert child.poll() is None
    child.kill()
    child.wait()
    assert len(workers) >= 2
    deadline = time.monotonic() + 30
    while any(map(_alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [one for one in workers if _alive(one)]


def _children(process: int) -> set[int]:
    found = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return {int(one) for one in found}


def _alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_workers_give_the_same(whole: Path, tmp_path: Path) -> None:
    generate(
        settings(), source(), tmp_path / "x", budget=Budget(trajectories=4), machine=ONE_THREAD,
        workers=2,
    )  # fmt: skip
    expected = frames(whole)
    assert frames(tmp_path / "x") == {name: expected[name] for name in sorted(expected)[:4]}
