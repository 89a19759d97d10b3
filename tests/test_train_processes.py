"""Two processes that share an epoch: disjoint frames, one loss curve, errors, launchers."""

import csv
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_training import LONG, SHORT, make_home, settings, without_figures

from cgbench import config
from cgbench.data import BlockShuffleLoader, MixedLoader, ProteinForcesDataset
from cgbench.errors import SimulationError, UsageError, ValidationError
from cgbench.models import load_model
from cgbench.train import TrainingOutcome, train, worker
from cgbench.train.processes import Place, find_place, helpers


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("home"))


def losses(out: Path, name: str) -> list[float]:
    rows = csv.DictReader(io.StringIO((out / "logs/metrics.csv").read_text()))
    return [float(row[name]) for row in rows if row[name]]


def weights(out: Path) -> dict[str, torch.Tensor]:
    network = load_model(out / "model.pt").network
    assert network is not None
    return network.state_dict()


@pytest.fixture(scope="module")
def pair(home: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Runs of one process, and of two with half the batch each."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("runs")
    one = settings(system=LONG, optimiser={"batch_size": 100, "maximum_epochs": 2})
    two = settings(
        system=LONG, optimiser={"batch_size": 50, "maximum_epochs": 2}, devices=2, strategy="ddp"
    )
    with without_figures():
        train(one, folder / "one", home=home)
        train(two, folder / "two", home=home)
    return folder / "one", folder / "two"


def test_two_processes_have_the_losses_of_one_with_twice_the_batch(
    pair: tuple[Path, Path],
) -> None:
    one, two = pair
    for name in ("train_loss", "val_loss", "val_l1"):
        np.testing.assert_allclose(losses(two, name), losses(one, name), rtol=2e-5)
    found, expected = weights(two), weights(one)
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-3, atol=1e-5)
    outcome = config.read_model(TrainingOutcome, two / "training.json")
    assert outcome.n_processes == 2
    assert (outcome.cpu_seconds or 0.0) > 0.0
    assert outcome.validation_loss == pytest.approx(losses(one, "val_loss")[-1], rel=1e-4)
    # The other process said nothing and left nothing.
    assert (two / "logs/process-1.log").read_text() == ""


@pytest.mark.parametrize("epoch", [0, 3])
def test_ranks_have_disjoint_frames_of_one_order(epoch: int, home: Path) -> None:
    """Batch n of all ranks together is batch n of one process, in its order."""
    dataset = ProteinForcesDataset(LONG, "train", home=home)
    alone = list(BlockShuffleLoader(dataset, 60, seed=5, epoch=epoch, mode="memory"))
    ranks = [
        list(
            BlockShuffleLoader(
                dataset, 20, seed=5, epoch=epoch, mode="memory", rank=rank, world_size=3
            )
        )
        for rank in range(3)
    ]
    seen = [int(frame) for batches in ranks for batch in batches for frame in batch.frame]
    assert len(set(seen)) == len(seen)
    assert len(dataset) - len(seen) < 3
    for number, together in enumerate(zip(*ranks, strict=True)):
        frames = torch.stack([batch.frame for batch in together if len(batch)], dim=1).reshape(-1)
        assert torch.equal(frames, alone[number].frame[: len(frames)])


def test_mixed_ranks_have_disjoint_frames(home: Path) -> None:
    datasets = [ProteinForcesDataset(system, "train", home=home) for system in (SHORT, LONG)]
    seen: list[tuple[int, int]] = []
    for rank in range(2):
        for batch in MixedLoader(datasets, 40, seed=2, rank=rank, world_size=2):
            for part, system in zip(batch.parts, batch.systems, strict=True):
                seen += [(system, int(frame)) for frame in part.frame]
    assert len(set(seen)) == len(seen)


def test_a_finished_run_of_two_is_returned(pair: tuple[Path, Path], home: Path) -> None:
    _, two = pair
    before = (two / "model.pt").stat().st_mtime_ns
    chosen = settings(
        system=LONG, optimiser={"batch_size": 50, "maximum_epochs": 2}, devices=2, strategy="ddp"
    )
    outcome = train(chosen, two, home=home)
    assert outcome == config.read_model(TrainingOutcome, two / "training.json")
    assert (two / "model.pt").stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_run_whose_process_is_killed_goes_on_as_if_nothing_had_happened(
    pair: tuple[Path, Path], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, two = pair
    out, started, killed = tmp_path / "run", [], []
    chosen = settings(
        system=LONG, optimiser={"batch_size": 50, "maximum_epochs": 2}, devices=2, strategy="ddp"
    )
    original = subprocess.Popen

    def start(*arguments: Any, **options: Any) -> Any:
        started.append(original(*arguments, **options))
        return started[-1]

    def kill_in_the_second_epoch(task: str, done: float, total: float) -> None:
        if not killed and (out / "logs" / "last.ckpt").is_file():
            killed.append(started[0].pid)
            started[0].kill()
            started[0].wait()

    with without_figures():
        monkeypatch.setattr(subprocess, "Popen", start)
        with pytest.raises(SimulationError, match="exit code -9") as error:
            train(chosen, out, home=home, progress=kill_in_the_second_epoch)
        assert "--resume" in str(error.value.fix)
        assert killed
        assert not (out / "model.pt").exists()
        with pytest.raises(UsageError, match="resume"):
            train(chosen, out, home=home)
        train(chosen, out, home=home, resume=True)
    assert len(started) == 2
    for name in ("train_loss", "val_loss", "val_l1"):
        assert losses(out, name) == losses(two, name)
    found, expected = weights(out), weights(two)
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())


def test_launchers_say_where_a_process_stands() -> None:
    assert find_place(1, variables={}) is None
    assert find_place(4, variables={}) is None
    place = Place(rank=5, local_rank=1, node_rank=1, world_size=8, address="10.0.0.1", port=29400)
    assert find_place(8, 2, place.variables()) == place
    with pytest.raises(UsageError, match="another number of processes") as error:
        find_place(4, 1, place.variables())
    assert "devices" in error.value.message
    with pytest.raises(UsageError, match="needs a launcher"):
        find_place(8, 2, {})
    # A single task of SLURM is no launcher of several.
    assert find_place(1, 1, {"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}) is None


def test_error_of_a_helper_is_the_error_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A helper that cannot read the configuration ends with exit code 4; so does the run."""
    (tmp_path / "config.yaml").write_text("name: x\nsystems: []\n")
    with pytest.raises(ValidationError, match="exit code 4") as error:  # noqa: SIM117
        with helpers(tmp_path, 2, []):
            raise AssertionError("nobody to train with")
    assert "systems" in error.value.message
    assert "process-1.log" in error.value.message
    # One that is killed has no error of its own.
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(SimulationError, match="exit code 1"):  # noqa: SIM117
        with helpers(tmp_path, 2, []):
            raise AssertionError("nobody to train with")


def test_worker_tells_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert worker.main([str(tmp_path)]) == 2
    assert "no such file" in capsys.readouterr().err


def test_devices_that_are_not_there(home: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    chosen = settings(system=LONG, accelerator="gpu")
    with pytest.raises(UsageError, match="accelerator gpu"):
        train(chosen, tmp_path / "run", home=home)
