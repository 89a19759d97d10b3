"""Training runs: what they leave behind, that they repeat, resume, and fail without doing harm."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch

from cgbench import config
from cgbench.data import FrameBatch
from cgbench.errors import SimulationError, UsageError, ValidationError
from cgbench.models import ForceLoss, load_model
from cgbench.priors import PriorParameters
from cgbench.splits import read_split, write_split
from cgbench.store import find_split, open_store
from cgbench.train import TrainingConfig, TrainingOutcome, read_config, train
from cgbench.train.module import ForceMatching

SAMPLE = "chignolin-sample"
EPOCHS = 3
N_TRAJECTORIES = {"train": 6, "val": 1, "test": 1}


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data home whose canonical split has a few of the sample's trajectories, to be quick."""
    folder = tmp_path_factory.mktemp("home")
    split = read_split(find_split(SAMPLE, "block-v1"))
    bounds = open_store(SAMPLE).trajectory_bounds
    assert split.trajectories is not None
    trajectories = {
        part: split.trajectories[part][:count] for part, count in N_TRAJECTORIES.items()
    }
    parts = {
        part: tuple((int(bounds[index][0]), int(bounds[index][1])) for index in chosen)
        for part, chosen in trajectories.items()
    }
    few = split.model_copy(update={"trajectories": trajectories, "parts": parts})
    write_split(folder / "splits" / SAMPLE / "block-v1.json", few)
    return folder


def settings(**changes: Any) -> TrainingConfig:
    """A network of a few hundred weights, three epochs, one thread."""
    optimiser = {
        "learning_rate": 5e-3,
        "batch_size": 750,
        "maximum_epochs": EPOCHS,
        # A plateau after every epoch, so that the schedule's state matters to a resumed run.
        "patience": 0,
        "factor": 0.5,
        **changes.pop("optimiser", {}),
    }
    values = {
        "name": "tiny",
        "system": SAMPLE,
        "network": {
            "embedding_dimension": 4,
            "num_filters": 4,
            "num_layers": 1,
            "num_rbf": 4,
            "max_bead_type": 23,
        },
        "optimiser": optimiser,
        "seed": 3,
        "threads": 1,
        **changes,
    }
    return TrainingConfig.model_validate(values)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    network = load_model(folder / "model.pt").network
    assert network is not None
    return network.state_dict()


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    assert left.keys() == right.keys()
    return all(torch.equal(left[name], right[name]) for name in left)


class StopAfter(lightning.Callback):
    """Ends a run at a given batch of a given epoch, by an exception."""

    def __init__(self, epoch: int, batch: int, error: BaseException) -> None:
        self.epoch, self.batch, self.error = epoch, batch, error

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, index: int) -> None:
        if (trainer.current_epoch, index) == (self.epoch, self.batch):
            raise self.error


@pytest.fixture
def interrupted(home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Returns a function that runs training until a batch of an epoch and stops it there."""

    def run(out: Path, epoch: int, batch: int, **options: Any) -> None:
        original = lightning.Trainer.__init__

        def init(self: lightning.Trainer, *args: Any, **options: Any) -> None:
            options["callbacks"] = [
                *options["callbacks"],
                StopAfter(epoch, batch, KeyboardInterrupt()),
            ]
            original(self, *args, **options)

        with monkeypatch.context() as patch:
            patch.setattr(lightning.Trainer, "__init__", init)
            with pytest.raises(KeyboardInterrupt):
                train(settings(), out, home=home, **options)
        assert not (out / "model.pt").exists()

    return run


@pytest.fixture(scope="module")
def finished(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder; tests that change it take a copy."""
    out = tmp_path_factory.mktemp("train") / "run"
    torch.set_num_threads(1)
    train(settings(), out, home=home)
    return out


def test_run_folder_holds_what_a_result_needs(finished: Path) -> None:
    names = ("config.yaml", "prior.json", "prior.png", "provenance.json", "logs/metrics.csv")
    assert all((finished / name).is_file() for name in names)
    outcome = config.read_model(TrainingOutcome, finished / "training.json")
    assert outcome.epochs == EPOCHS
    assert 1 <= outcome.best_epoch <= EPOCHS
    assert outcome.validation_loss > 0
    assert (outcome.cpu_seconds or 0.0) > 0.0
    assert outcome.gpu_hours is None
    assert outcome.explained == pytest.approx(
        1 - outcome.validation_loss / outcome.validation_variance
    )
    assert read_config(finished / "config.yaml") == settings()
    header, *rows = (finished / "logs/metrics.csv").read_text().splitlines()
    assert {"epoch", "train_loss", "val_loss"} <= set(header.split(","))
    column = header.split(",").index("val_loss")
    losses = [float(row.split(",")[column]) for row in rows if row.split(",")[column]]
    assert len(losses) == EPOCHS
    assert min(losses) == pytest.approx(outcome.validation_loss, rel=1e-5)


def test_model_carries_its_origin(finished: Path, home: Path) -> None:
    potential = load_model(finished / "model.pt")
    store = open_store(SAMPLE)
    split = read_split(find_split(SAMPLE, "block-v1", home))
    (origin,) = potential.spec.trained_on
    assert origin.system == SAMPLE
    assert origin.split_id == "block-v1"
    assert origin.split_fingerprint == split.fingerprint
    assert origin.store_fingerprint == store.fingerprint
    assert origin.part == "train"
    assert potential.spec.seeds == (3,)
    assert potential.spec.force_map == store.metadata.default_force_map
    assert potential.spec.cutoff == 12.0
    assert potential.spec.n_parameters == sum(
        tensor.numel() for tensor in weights(finished).values()
    )
    assert potential.prior == config.read_model(PriorParameters, finished / "prior.json")


def test_seed_decides_the_weights(finished: Path, home: Path, tmp_path: Path) -> None:
    train(settings(), tmp_path / "again", home=home)
    assert same(weights(tmp_path / "again"), weights(finished))
    train(settings(seed=4, optimiser={"maximum_epochs": 1}), tmp_path / "other", home=home)
    assert not same(weights(tmp_path / "other"), weights(finished))


@pytest.mark.parametrize(("epoch", "batch"), [(1, 0), (2, 3)], ids=["between epochs", "within"])
def test_resumed_run_is_bitwise_the_uninterrupted_one(
    epoch: int,
    batch: int,
    finished: Path,
    home: Path,
    tmp_path: Path,
    interrupted: Callable[[Path, int, int], None],
) -> None:
    out = tmp_path / "run"
    interrupted(out, epoch, batch)
    outcome = train(settings(), out, home=home, resume=True)
    expected = config.read_model(TrainingOutcome, finished / "training.json")
    assert same(weights(out), weights(finished))
    assert outcome.epochs == EPOCHS
    assert outcome.best_epoch == expected.best_epoch
    assert outcome.validation_loss == expected.validation_loss
    # The log goes on: every epoch is in it.
    header, *rows = (out / "logs/metrics.csv").read_text().splitlines()
    column, number = header.split(",").index("val_loss"), header.split(",").index("epoch")
    logged = {row.split(",")[number] for row in rows if row.split(",")[column]}
    assert logged == {str(index) for index in range(EPOCHS)}


@pytest.mark.parametrize(("epoch", "batch"), [(0, 2), (2, 3)])
def test_checkpoints_within_an_epoch(
    epoch: int,
    batch: int,
    finished: Path,
    home: Path,
    tmp_path: Path,
    interrupted: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With one after every batch, a resumed run repeats none and ends at the same weights."""
    out = tmp_path / "run"
    interrupted(out, epoch, batch, checkpoint_minutes=1e-9)
    state = torch.load(out / "logs/last.ckpt", weights_only=True)
    whole = 4  # batches of 3,000 frames
    assert (state["epoch"], state["global_step"]) == (epoch, epoch * whole + batch)
    steps = []
    original = ForceMatching.training_step

    def step(self: ForceMatching, frames: FrameBatch, index: int) -> torch.Tensor:
        steps.append(index)
        return original(self, frames, index)

    monkeypatch.setattr(ForceMatching, "training_step", step)
    outcome = train(settings(), out, home=home, resume=True, checkpoint_minutes=1e-9)
    assert len(steps) == (EPOCHS - epoch) * whole - batch
    assert same(weights(out), weights(finished))
    expected = config.read_model(TrainingOutcome, finished / "training.json")
    assert outcome.validation_loss == expected.validation_loss


def test_no_checkpoint_after_the_last_batch_of_an_epoch(
    home: Path, tmp_path: Path, interrupted: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run resumed there would pass over the validation of the epoch."""
    saved: list[tuple[int, bool]] = []
    original = lightning.Trainer.save_checkpoint

    def save(self: lightning.Trainer, *args: Any, **options: Any) -> None:
        saved.append((self.global_step, "val_loss" in self.callback_metrics))
        original(self, *args, **options)

    monkeypatch.setattr(lightning.Trainer, "save_checkpoint", save)
    interrupted(tmp_path / "run", 1, 0, checkpoint_minutes=1e-9)
    assert [step for step, validated in saved if not validated] == [1, 2, 3]
    assert {step for step, validated in saved if validated} == {4}
    with pytest.raises(UsageError, match="checkpoint_minutes"):
        train(settings(), tmp_path / "other", home=home, checkpoint_minutes=0.0)


def test_unfinished_run_is_not_continued_unasked(
    home: Path, tmp_path: Path, interrupted: Callable[[Path, int, int], None]
) -> None:
    out = tmp_path / "run"
    interrupted(out, 1, 0)
    before = (out / "logs/last.ckpt").read_bytes()
    with pytest.raises(UsageError, match="unfinished run") as error:
        train(settings(), out, home=home)
    assert "--resume" in error.value.message
    assert (out / "logs/last.ckpt").read_bytes() == before


def test_folder_of_another_run_is_left_alone(finished: Path, home: Path, tmp_path: Path) -> None:
    out = shutil.copytree(finished, tmp_path / "run")
    for resume in (False, True):
        with pytest.raises(UsageError, match="another configuration") as error:
            train(settings(seed=4), out, home=home, resume=resume)
        assert str(out) in error.value.message
    assert (out / "model.pt").read_bytes() == (finished / "model.pt").read_bytes()


def test_force_starts_over(finished: Path, home: Path, tmp_path: Path) -> None:
    out = shutil.copytree(finished, tmp_path / "run")
    outcome = train(settings(seed=4, optimiser={"maximum_epochs": 1}), out, home=home, force=True)
    assert outcome.epochs == 1
    assert load_model(out / "model.pt").spec.seeds == (4,)


def test_finished_run_is_returned_at_once(
    finished: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a finished run was trained again")

    monkeypatch.setattr(lightning.Trainer, "fit", never)
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    for resume in (False, True):
        outcome = train(settings(), finished, home=home, resume=resume)
        assert outcome == config.read_model(TrainingOutcome, finished / "training.json")
    assert before == {path: path.stat().st_mtime_ns for path in before}


@pytest.mark.parametrize("last", [False, True], ids=["first batch", "last batch of the epoch"])
def test_divergence_keeps_the_last_good_checkpoint(
    last: bool, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not-a-number in the second epoch; the state after the first stays as it was."""
    out = tmp_path / "run"
    original = ForceMatching.match

    def match(self: ForceMatching, batch: FrameBatch) -> ForceLoss:
        found = original(self, batch)
        batches = self.trainer.num_training_batches
        at = batches - 1 if last else 0
        bad = self.training and self.current_epoch == 1 and self.trainer.fit_loop.batch_idx == at
        return found._replace(loss=found.loss * float("nan")) if bad else found

    with monkeypatch.context() as patch:
        patch.setattr(ForceMatching, "match", match)
        with pytest.raises(SimulationError, match="diverged at epoch 2, batch") as error:
            train(settings(), out, home=home)
    assert error.value.exit_code == 5
    assert "learning_rate" in error.value.message
    assert not (out / "model.pt").exists()
    assert not (out / "training.json").exists()
    state = torch.load(out / "logs/last.ckpt", weights_only=True)
    assert state["epoch"] == 0
    assert all(bool(torch.isfinite(value).all()) for value in state["state_dict"].values())


def test_divergence_through_the_weights_is_told(home: Path, tmp_path: Path) -> None:
    """An absurd learning rate ends the run with an error, and with nothing that looks finished."""
    out = tmp_path / "run"
    with pytest.raises(SimulationError, match="diverged"):
        train(settings(optimiser={"learning_rate": 1e36}), out, home=home)
    assert not (out / "model.pt").exists()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"system": "chignolinn"}, "chignolin"),
        ({"split": "block-v9"}, "block-v9"),
        ({"force_map": "quantum"}, "quantum"),
    ],
    ids=["system", "split", "force map"],
)
def test_unknown_names(changes: dict[str, str], match: str, home: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(UsageError, match=match) as error:
        train(settings(**changes), out, home=home)
    assert error.value.exit_code == 2
    # Nothing is left that would block the corrected configuration.
    assert not (out / "run.json").exists()


def write_config(folder: Path, text: str = "") -> Path:
    path = folder / "config.yaml"
    path.write_text(f"name: tiny\nsystem: {SAMPLE}\n{text}")
    return path


def test_overrides_reach_nested_settings(tmp_path: Path) -> None:
    path = write_config(tmp_path, "optimiser:\n  batch_size: 64\n")
    read = read_config(
        path,
        ["optimiser.learning_rate=1e-3", "network.num_layers=2", "seed=9", "force_map=null"],
    )
    assert read.optimiser.learning_rate == 1e-3
    assert read.optimiser.batch_size == 64
    assert read.network.num_layers == 2
    assert read.seed == 9
    assert read.force_map is None


@pytest.mark.parametrize("override", ["seed", "=3", "name.first=x", "optimiser.batch_size.x=1"])
def test_malformed_overrides(override: str, tmp_path: Path) -> None:
    path = write_config(tmp_path, "optimiser:\n  batch_size: 64\n")
    with pytest.raises(UsageError, match="--set"):
        read_config(path, [override])


@pytest.mark.parametrize(
    "override",
    [
        "optimiser.rate=1",
        "sead=1",
        "optimiser.batch_size=0",
        "network.num_layers=many",
        "name=../x",
    ],
)
def test_settings_that_are_not_there_or_out_of_range(override: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError) as error:
        read_config(write_config(tmp_path), [override])
    assert override.split("=")[0].split(".")[-1] in error.value.message


def test_config_that_is_no_mapping(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("- a\n- b\n")
    with pytest.raises(UsageError, match=r"config\.yaml"):
        read_config(path)
