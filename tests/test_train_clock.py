"""Time of a run over its resumptions, and one process at a time in its folder."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from toy_training import make_home, settings

from cgbench import config
from cgbench.errors import UsageError
from cgbench.train import read_config, train, train_sampler
from cgbench.train.clock import Clock, KeepTime
from cgbench.train.records import RunState, alone, take_folder


def test_time_goes_on_from_where_it_was() -> None:
    clock = Clock(RunState(fingerprint="x", seconds=100.0, cpu_seconds=200.0))
    sum(range(100_000))
    now = clock.now()
    assert now.seconds > 100.0
    assert now.cpu_seconds is not None
    assert now.cpu_seconds > 200.0
    assert clock.now(processor=7.0).cpu_seconds == 207.0
    # What an earlier version has begun has no time of processors, rather than a part of it.
    assert Clock(RunState(fingerprint="x", seconds=1.0)).now().cpu_seconds is None


def test_time_is_written_with_every_checkpoint(tmp_path: Path) -> None:
    state = take_folder(tmp_path, "x", resume=False, force=False)
    assert state.cpu_seconds == 0.0
    keep = KeepTime(Clock(state), tmp_path / "run.json")
    keep.on_save_checkpoint(SimpleNamespace(is_global_zero=True), None, {})
    kept = take_folder(tmp_path, "x", resume=True, force=False)
    assert kept.seconds > 0.0
    assert (kept.cpu_seconds or 0.0) > 0.0
    written = (tmp_path / "run.json").read_bytes()
    keep.on_save_checkpoint(SimpleNamespace(is_global_zero=False), None, {})
    assert (tmp_path / "run.json").read_bytes() == written


BASELINES = Path(__file__).parent.parent / "baselines"


@pytest.mark.parametrize("kind", ["pair-spline", "go-model", "recurrent", "nemo"])
def test_one_process_at_a_time_whatever_is_trained(tmp_path: Path, kind: str) -> None:
    name = "chignolin-sample-100" if kind == "recurrent" else "chignolin-sample"
    chosen = read_config(BASELINES / kind / name / "config.yaml")
    run = train_sampler if kind in ("recurrent", "nemo") else train
    with (
        alone(tmp_path / "run"),
        pytest.raises(UsageError, match="another process trains in this folder"),
    ):
        run(chosen, tmp_path / "run")
    assert [one.name for one in (tmp_path / "run").iterdir()] == [".lock"]


def test_one_process_at_a_time(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home")
    out = tmp_path / "run"
    with alone(out):
        with pytest.raises(UsageError, match="another process trains in this folder"):
            train(settings(), out, home=home)
        assert not (out / "run.json").exists()
    with alone(out):
        config.write_atomic(out / "free", b"")
