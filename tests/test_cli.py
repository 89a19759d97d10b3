"""The command line as a user meets it: exit codes, messages, JSON, earlier results left intact."""

import contextlib
import io
import json
import os
import pickle
import subprocess
import sys
import traceback
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from cgbench import registry
from cgbench.cli import main
from cgbench.store import open_store

SAMPLE = "chignolin-sample"


class Done(NamedTuple):
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


def process(*arguments: str, cwd: Path) -> Done:
    """Run a command in a process of its own, as a shell would."""
    done = subprocess.run(
        [sys.executable, "-c", "from cgbench.cli import main; main()", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        env=os.environ | {"CGBENCH_HOME": str(cwd / "home"), "COLUMNS": "200"},
        timeout=300,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def run(*arguments: str, cwd: Path) -> Done:
    """Run a command in this process, which has loaded everything: as `process`, but at once."""
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.chdir(cwd)
        patch.setenv("CGBENCH_HOME", str(cwd / "home"))
        patch.setenv("COLUMNS", "200")
        patch.setattr("sys.argv", ["cgbench", *arguments])
        try:
            main()
        except SystemExit as ended:
            code = ended.code
        except Exception:  # noqa: BLE001 - what Python does with an error that nobody catches
            traceback.print_exc()
            code = 1
    assert code is None or isinstance(code, int)
    return Done(code or 0, out.getvalue(), err.getvalue())


def write_raw(folder: Path, n_frames: int = 60) -> Path:
    """A small but real set: the first frames of the sample's first trajectories."""
    store = open_store(SAMPLE)
    folder.mkdir(parents=True)
    np.save(folder / "chignolin_ca_coords.npy", store.coordinates(0, n_frames))
    np.save(folder / "chignolin_ca_forces.npy", store.forces(0, n_frames, force_map="slice"))
    np.save(
        folder / "chignolin_ca_forces_optimal.npy",
        store.forces(0, n_frames, force_map="optimal"),
    )
    np.save(folder / "chignolin_ca_embeddings.npy", np.asarray(registry.system(SAMPLE).bead_types))
    half = n_frames // 2
    (folder / "trajectories.json").write_text(
        json.dumps({"lengths": [half, n_frames - half], "started_from": ["coil", "native"]})
    )
    return folder


def test_help_names_every_verb_and_loads_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from cgbench.cli.main import app\n"
        "heavy = {'torch', 'zarr', 'dask', 'xarray', 'matplotlib', 'lightning', 'mdtraj',"
        " 'deeptime', 'pandas', 'scipy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert loaded.stdout.strip() == "[]"
    shown = process("--help", cwd=tmp_path)
    assert shown.returncode == 0
    for verb in ("demo", "info", "preprocess", "train", "check", "simulate", "evaluate", "report"):
        assert f" {verb} " in shown.stdout


def test_version(tmp_path: Path) -> None:
    import cgbench

    assert run("--version", cwd=tmp_path).stdout.strip() == f"cgbench {cgbench.__version__}"


def test_info_describes_and_verifies_the_sample(tmp_path: Path) -> None:
    done = run("info", SAMPLE, "--verify", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["n_frames"] == 52500
    assert told["n_trajectories"] == 105
    assert told["metadata"]["sequence"] == "YYDPETGTWY"
    assert told["verification"]["problems"] == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("info", "chignoln-sample"),
        ("preprocess", "lambada"),
        ("evaluate",),
        ("evaluate", "no/such/model.pt"),
        ("simulate", "torchmd-gn/chignolin-sample", "--protocol", "standrad"),
        ("train", "missing.yaml"),
        ("report", "nowhere"),
        ("frobnicate",),
    ],
)
def test_wrong_names_are_usage_errors(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()


@pytest.mark.parametrize(
    "arguments", [("info", "chignoln-sample"), ("frobnicate",), ("--version",)]
)
def test_a_process_does_what_the_others_here_do_without_one(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    alone, here = process(*arguments, cwd=tmp_path), run(*arguments, cwd=tmp_path)
    assert alone[:2] == here[:2]
    # Usage names the program, which is Python here.
    assert alone.stderr.splitlines()[-1:] == here.stderr.splitlines()[-1:]


def test_an_unknown_protein_is_answered_with_the_closest(tmp_path: Path) -> None:
    assert "chignolin" in run("preprocess", "chignoln", cwd=tmp_path).stderr


def test_preprocess_writes_a_store_that_info_verifies(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    done = run("preprocess", SAMPLE, "--raw", str(raw), "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    store = Path(json.loads(done.stdout)["store"])
    assert store == tmp_path / "home" / "store" / f"{SAMPLE}.zarr"
    checked = run("info", str(store), "--verify", "--json", cwd=tmp_path)
    assert json.loads(checked.stdout)["n_frames"] == 60
    opened = open_store(store)
    np.testing.assert_array_equal(opened.coordinates(), open_store(SAMPLE).coordinates(0, 60))


def _truncate(raw: Path) -> None:
    path = raw / "chignolin_ca_forces.npy"
    path.write_bytes(path.read_bytes()[:-100])


def _wrong_beads(raw: Path) -> None:
    path = raw / "chignolin_ca_coords.npy"
    np.save(path, np.load(path)[:, :9])


def _wrong_sequence(raw: Path) -> None:
    path = raw / "chignolin_ca_embeddings.npy"
    np.save(path, np.load(path)[::-1])


def _shapes_disagree(raw: Path) -> None:
    path = raw / "chignolin_ca_forces_optimal.npy"
    np.save(path, np.load(path)[:-1])


def _nothing_usable(raw: Path) -> None:
    path = raw / "chignolin_ca_coords.npy"
    np.save(path, np.full_like(np.load(path), np.nan))


def _empty_trajectory(raw: Path) -> None:
    (raw / "trajectories.json").write_text(json.dumps({"lengths": [60, 0]}))


def _lengths_disagree(raw: Path) -> None:
    (raw / "trajectories.json").write_text(json.dumps({"lengths": [10, 20]}))


class _Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.system, ("touch owned",))


def _pickled(raw: Path) -> None:
    np.save(raw / "chignolin_ca_coords.npy", np.array([_Trap()], dtype=object), allow_pickle=True)


@pytest.mark.parametrize(
    ("damage", "code", "named"),
    [
        (_truncate, 3, "chignolin_ca_forces.npy"),
        (_wrong_beads, 4, "chignolin_ca_coords.npy"),
        (_wrong_sequence, 4, "chignolin_ca_embeddings.npy"),
        (_shapes_disagree, 4, "chignolin_ca_forces_optimal.npy"),
        (_nothing_usable, 4, "chignolin_ca_coords.npy"),
        (_empty_trajectory, 4, "trajectories.json"),
        (_lengths_disagree, 4, "trajectories.json"),
        (_pickled, 3, "chignolin_ca_coords.npy"),
    ],
)
def test_bad_input_names_the_file_and_leaves_the_earlier_store(
    tmp_path: Path, damage: object, code: int, named: str
) -> None:
    store = tmp_path / "sample.zarr"
    raw = write_raw(tmp_path / "raw")
    good = ("preprocess", SAMPLE, "--raw", str(raw), "--out", str(store))
    assert run(*good, cwd=tmp_path).returncode == 0
    before = open_store(store).fingerprint
    assert callable(damage)
    damage(raw)
    done = run(*good, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    assert open_store(store).fingerprint == before
    assert not (tmp_path / "owned").exists()


def test_a_flipped_byte_is_found(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    store = tmp_path / "sample.zarr"
    run("preprocess", SAMPLE, "--raw", str(raw), "--out", str(store), cwd=tmp_path)
    shard = max((store / "coordinates" / "c").rglob("*"), key=lambda path: path.stat().st_size)
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(bytes(content))
    done = run("info", str(store), "--verify", cwd=tmp_path)
    assert done.returncode == 3
    assert "coordinates" in done.stderr


def test_a_model_file_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(pickle.dumps(_Trap()))
    done = run("check", str(path), cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert "model.pt" in done.stderr
    assert not (tmp_path / "owned").exists()


def test_a_folder_that_cannot_be_written_is_no_traceback(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder should be")
    done = run(
        "preprocess", SAMPLE, "--raw", str(raw), "--out", str(blocked / "a.zarr"), cwd=tmp_path
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "blocked" in done.stderr


def test_data_of_another_frame_interval_are_refused(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    index = raw / "trajectories.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"frame_interval_ps": 100.0}))
    done = run("preprocess", SAMPLE, "--raw", str(raw), cwd=tmp_path)
    assert done.returncode == 4, done.stderr
    assert "100.0 ps" in done.stderr


def test_an_override_without_a_value_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"name: a\nsystem: {SAMPLE}\n")
    done = run("train", str(config), "--set", "seed", cwd=tmp_path)
    assert done.returncode == 2
    assert "key.subkey=value" in done.stderr
    done = run("train", str(config), "--set", "optimiser.learning_rat=1", cwd=tmp_path)
    assert done.returncode == 4
    assert "learning_rat" in done.stderr


def test_output_on_stdout_is_only_json(tmp_path: Path) -> None:
    done = run("reference", "show", SAMPLE, "--json", cwd=tmp_path)
    told = json.load(io.StringIO(done.stdout))
    assert told["system"] == SAMPLE
    assert told["converged"] is False
