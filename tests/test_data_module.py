"""The LightningDataModule: loaders for a trainer, and runs that resume where they stopped."""

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from toy_store import RULE, ToySource, make_home

import cgbench.data
from cgbench.data import ForcesDataModule, FrameBatch
from cgbench.errors import UsageError, ValidationError
from cgbench.splits import make_block_split
from cgbench.store import SystemStore, open_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SystemStore:
    return open_store("toy", make_home(tmp_path_factory.mktemp("home"), ToySource()))


@pytest.fixture
def data(store: SystemStore) -> ForcesDataModule:
    return ForcesDataModule(store, make_block_split(store, RULE), batch_size=300, seed=4)


class Recorder(lightning.LightningModule):
    """Fits one number and remembers which frames it has seen in which epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.zeros(()))
        self.seen: dict[int, list[int]] = {}
        self.validated: list[int] = []

    def training_step(self, batch: FrameBatch, number: int) -> Any:
        self.seen.setdefault(self.current_epoch, []).extend(batch.frame.tolist())
        return (batch.forces - self.scale).square().mean()

    def validation_step(self, batch: FrameBatch, number: int) -> None:
        self.validated.extend(batch.frame.tolist())

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1e-3)


def trainer(epochs: int, **arguments: Any) -> lightning.Trainer:
    return lightning.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **arguments,
    )


@pytest.mark.parametrize("reload", [0, 1])
def test_a_resumed_run_sees_the_same_frames(
    store: SystemStore, tmp_path: Path, reload: int
) -> None:
    def module() -> ForcesDataModule:
        return ForcesDataModule(store, make_block_split(store, RULE), batch_size=300, seed=4)

    arguments = {"reload_dataloaders_every_n_epochs": reload}
    straight = Recorder()
    trainer(3, **arguments).fit(straight, datamodule=module())
    part = module().dataset("train").frames.tolist()
    assert sorted(straight.seen) == [0, 1, 2]
    for frames in straight.seen.values():
        assert sorted(frames) == part
    assert straight.seen[0] != straight.seen[1] != straight.seen[2]
    assert straight.validated == 3 * module().dataset("val").frames.tolist()

    first, second = Recorder(), Recorder()
    interrupted = trainer(1, **arguments)
    interrupted.fit(first, datamodule=module())
    interrupted.save_checkpoint(tmp_path / "last.ckpt")
    trainer(3, **arguments).fit(
        second, datamodule=module(), ckpt_path=tmp_path / "last.ckpt", weights_only=True
    )
    assert first.seen[0] == straight.seen[0]
    assert second.seen == {1: straight.seen[1], 2: straight.seen[2]}
    assert torch.equal(second.scale, straight.scale)


class StopAt(lightning.Callback):
    """Saves a checkpoint after some steps and stops there, as a job that runs out of time does."""

    def __init__(self, step: int, path: Path) -> None:
        self.step = step
        self.path = path

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            raise KeyboardInterrupt


@pytest.mark.parametrize("mode", ["memory", "stream"])
@pytest.mark.parametrize("step", [1, 13, 14, 20, 28])
@pytest.mark.parametrize("reload", [0, 1])
def test_a_run_resumed_within_an_epoch_sees_the_rest_of_it(
    store: SystemStore, tmp_path: Path, mode: Any, step: int, reload: int
) -> None:
    def module() -> ForcesDataModule:
        split = make_block_split(store, RULE)
        return ForcesDataModule(store, split, batch_size=300, seed=4, mode=mode)

    arguments = {"reload_dataloaders_every_n_epochs": reload}
    straight, first, second = Recorder(), Recorder(), Recorder()
    trainer(3, **arguments).fit(straight, datamodule=module())
    assert len(module().train_dataloader()) == 14
    path = tmp_path / "last.ckpt"
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        trainer(3, callbacks=[StopAt(step, path)], **arguments).fit(first, datamodule=module())
    trainer(3, **arguments).fit(second, datamodule=module(), ckpt_path=path, weights_only=True)
    joined = {
        epoch: [*first.seen.get(epoch, []), *second.seen.get(epoch, [])] for epoch in range(3)
    }
    assert joined == straight.seen
    assert torch.equal(second.scale, straight.scale)


def test_resuming_on_other_data_is_refused(store: SystemStore, data: ForcesDataModule) -> None:
    state = data.state_dict()
    data.load_state_dict(state)
    split = make_block_split(store, RULE)
    for arguments, name in (
        ({"seed": 5}, "seed"),
        ({"force_map": "slice"}, "force_map"),
        ({"split": split.model_copy(update={"seed": 9})}, "split_fingerprint"),
    ):
        other = ForcesDataModule(store, **{"split": split, "seed": 4, **arguments})
        with pytest.raises(ValidationError, match=f"other data: {name}"):
            other.load_state_dict(state)


def test_parts_and_names(store: SystemStore, data: ForcesDataModule) -> None:
    assert len(data.test_dataloader()) == -(-len(data.dataset("test")) // 300)
    assert data.dataset("test") is data.dataset("test")
    assert data.force_map == "optimal"
    frames = np.concatenate([batch.frame for batch in data.test_dataloader()])
    assert np.array_equal(frames, data.dataset("test").frames)
    with pytest.raises(UsageError, match="hydrogens"):
        ForcesDataModule(store, make_block_split(store, RULE), force_map="hydrogens")
    with pytest.raises(UsageError, match="block-v9"):
        ForcesDataModule("chignolin-sample", "block-v9")
    copy = pickle.loads(pickle.dumps(data))
    assert len(next(iter(copy.val_dataloader()))) == 300


@pytest.mark.parametrize("mode", ["memory", "stream"])
def test_validation_variance(store: SystemStore, mode: Any) -> None:
    data = ForcesDataModule(store, make_block_split(store, RULE), mode=mode)
    forces = data.dataset("val").load().forces.double()
    assert data.validation_variance() == pytest.approx(float((forces**2).mean()), rel=1e-9)


def test_drop_last_is_for_training_alone(store: SystemStore) -> None:
    data = ForcesDataModule(store, make_block_split(store, RULE), batch_size=300, drop_last=True)
    assert len(data.train_dataloader()) == len(data.dataset("train")) // 300
    assert sum(map(len, data.val_dataloader())) == len(data.dataset("val"))


def test_lightning_is_not_imported_before_it_is_needed() -> None:
    code = "import sys, cgbench.data; print('lightning' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        cgbench.data.Nothing  # noqa: B018
