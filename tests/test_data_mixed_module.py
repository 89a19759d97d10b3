"""The data module of several systems: training, resumption, and validation of each system."""

from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from toy_store import RULE
from toy_systems import SYSTEMS, make_systems

from cgbench.data import FrameBatch, MixedBatch, MultiProteinDataModule, ProteinForcesDataset
from cgbench.errors import UsageError, ValidationError
from cgbench.priors import BondTerm, PriorParameters
from cgbench.splits import make_block_split
from cgbench.store import open_store


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_systems(tmp_path_factory.mktemp("home"))


class Network(lightning.LightningModule):
    """Fits one number; remembers what came when."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, list[int]]] = []
        self.validated: dict[int, int] = {}

    def training_step(self, batch: MixedBatch, number: int) -> Any:
        flat = batch.to_pyg()
        self.seen.append((self.current_epoch, flat.frame.tolist()))
        return (flat.forces - self.scale).square().mean()

    def validation_step(self, batch: MixedBatch, number: int, dataloader_idx: int = 0) -> None:
        assert isinstance(batch.parts[0], FrameBatch)
        self.validated[dataloader_idx] = self.validated.get(dataloader_idx, 0) + len(batch)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1e-3)


class StopAt(lightning.Callback):
    """Saves a checkpoint and stops."""

    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            raise KeyboardInterrupt


def fit(network: Network, data: MultiProteinDataModule, **arguments: Any) -> None:
    callbacks = arguments.pop("callbacks", [])
    lightning.Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        callbacks=callbacks,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    ).fit(network, datamodule=data, **arguments)


def test_data_module_trains_resumes_and_validates_each_system(home: Path, tmp_path: Path) -> None:
    def data(**arguments: Any) -> MultiProteinDataModule:
        return MultiProteinDataModule(
            list(SYSTEMS), home=home, batch_size=300, protein_weights="sqrt", seed=3, **arguments
        )

    straight, first, second = Network(), Network(), Network()
    fit(straight, data())
    assert {epoch for epoch, _ in straight.seen} == {0, 1}
    lengths = [len(dataset) for dataset in data().datasets("val")]
    assert straight.validated == {index: 2 * n for index, n in enumerate(lengths)}
    path = tmp_path / "last.ckpt"
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(first, data(), callbacks=[StopAt(5, path)])
    fit(second, data(), ckpt_path=path, weights_only=True)
    assert len(first.seen) == 5
    assert first.seen + second.seen == straight.seen
    assert torch.equal(second.scale, straight.scale)
    with pytest.raises(ValidationError, match="other data: prior_fingerprints"):
        data(prior=PriorParameters(bonds={}, repulsion={}, source="test")).load_state_dict(
            data().state_dict()
        )


def test_parts_priors_and_variances_of_the_data_module(home: Path) -> None:
    prior = PriorParameters(
        bonds=dict.fromkeys(("4-4", "4-5", "5-8", "8-6", "6-13"), BondTerm(k=100.0, r0=3.8)),
        repulsion={},
        source="test",
    )
    lopo = {}
    for system in SYSTEMS:
        split = make_block_split(open_store(system, home), RULE)
        empty = {"train": (), "val": (), "test": ((0, split.n_frames),)}
        lopo[system] = split.model_copy(update={"parts": empty}) if system == "small" else split
    data = MultiProteinDataModule(list(SYSTEMS), lopo, prior=prior, home=home)
    assert data.systems("train") == data.systems("val") == ("middle", "large")
    assert data.systems("test") == ("small", "middle", "large")
    assert len(data.test_dataloader()) == 3
    dataset = data.datasets("val")[1]
    expected = ProteinForcesDataset("large", "val", home=home, prior=prior).load().forces
    assert torch.equal(dataset.load().forces, expected)
    variance = data.validation_variance()
    assert variance["large"] == pytest.approx(float(expected.double().square().mean()))
    for arguments, name in (
        ({"stores": ["small", "small"]}, "systems"),
        ({"stores": []}, "none"),
        ({"split": {"small": "block-v1"}}, "splits"),
        ({"force_map": {"small": "slice"}}, "force maps"),
        ({"prior": {"small": prior}}, "priors"),
    ):
        with pytest.raises(UsageError, match=name):
            MultiProteinDataModule(**{"stores": list(SYSTEMS), "home": home, **arguments})
