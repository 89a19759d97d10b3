"""Options of a run beside the optimiser: averaging, precision, clipping, and their resumption."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from toy_training import LONG, make_home, settings, without_figures

from cgbench.errors import IntegrityError, SimulationError, ValidationError
from cgbench.models import ForceLoss, GraphNetwork, load_model
from cgbench.train import AveragingSettings, train
from cgbench.train.averaging import MovingAverage
from cgbench.train.checkpoints import read_checkpoint, weights_of
from cgbench.train.module import ForceMatching


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("home"))


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with without_figures():
        yield
    torch.set_num_threads(threads)


def weights(out: Path, name: str = "model.pt") -> dict[str, torch.Tensor]:
    network = load_model(out / name).network
    assert network is not None
    return network.state_dict()


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


class Watch(lightning.Callback):
    """Notes the weights after every step, and stops at a batch of an epoch."""

    def __init__(self, stop: tuple[int, int] | None = None) -> None:
        self.stop = stop
        self.steps: list[dict[str, torch.Tensor]] = []

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, index: int) -> None:
        if (trainer.current_epoch, index) == self.stop:
            raise KeyboardInterrupt

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        self.steps.append({k: v.clone() for k, v in module.network.state_dict().items()})


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Callable[[Watch], Watch]:
    original = lightning.Trainer.__init__

    def watch(callback: Watch) -> Watch:
        def init(self: lightning.Trainer, *args: Any, **options: Any) -> None:
            options["callbacks"] = [*options["callbacks"], callback]
            original(self, *args, **options)

        monkeypatch.setattr(lightning.Trainer, "__init__", init)
        return callback

    return watch


AVERAGED = {"averaging": {"decay": 0.9}, "system": LONG}


def test_average_is_that_of_the_formula(
    home: Path, tmp_path: Path, watched: Callable[[Watch], Watch]
) -> None:
    watch = watched(Watch())
    train(settings(**AVERAGED, optimiser={"maximum_epochs": 1}), tmp_path / "run", home=home)
    torch.manual_seed(3)
    start = GraphNetwork(settings().network).state_dict()
    average = {name: value.double() for name, value in start.items()}
    for number, step in enumerate(watch.steps, start=1):
        keep = min(0.9, (1 + number) / (10 + number))
        average = {k: keep * v + (1 - keep) * step[k].double() for k, v in average.items()}
    assert len(watch.steps) > 4
    for name, value in weights(tmp_path / "run").items():
        torch.testing.assert_close(value.double(), average[name], rtol=1e-5, atol=1e-6)
    # The last checkpoint holds both, and they differ.
    checkpoint = read_checkpoint(tmp_path / "run/logs/last.ckpt")
    assert not same(weights_of(checkpoint), watch.steps[-1])
    assert torch.equal(
        checkpoint["state_dict"]["network.embedding.weight"], watch.steps[-1]["embedding.weight"]
    )


def test_decay_warms_up() -> None:
    average = MovingAverage(AveragingSettings(decay=0.99))
    assert [average.decay(n) for n in (1, 90, 10_000)] == [2 / 11, 0.91, 0.99]
    assert MovingAverage(AveragingSettings(decay=0.99, warm_up=False)).decay(1) == 0.99


@pytest.mark.parametrize("stop", [(1, 0), (2, 3)], ids=["between epochs", "within"])
def test_averaging_and_clipping_resume_bitwise(
    stop: tuple[int, int], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(**AVERAGED, optimiser={"gradient_clip": 0.5})
    train(chosen, tmp_path / "straight", home=home)
    original = lightning.Trainer.__init__

    def init(self: lightning.Trainer, *args: Any, **options: Any) -> None:
        options["callbacks"] = [*options["callbacks"], Watch(stop)]
        original(self, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(lightning.Trainer, "__init__", init)
        with pytest.raises(KeyboardInterrupt):
            train(chosen, tmp_path / "broken", home=home, checkpoint_minutes=1e-9)
    train(chosen, tmp_path / "broken", home=home, resume=True)
    assert same(weights(tmp_path / "broken"), weights(tmp_path / "straight"))


def test_gradients_are_clipped(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[tuple[float, float]] = []
    original = ForceMatching.configure_gradient_clipping

    def norm(module: ForceMatching) -> float:
        found = [p.grad.norm() for p in module.parameters() if p.grad is not None]
        return float(torch.stack(found).norm())

    def clip(self: ForceMatching, *args: Any, **options: Any) -> None:
        before = norm(self)
        original(self, *args, **options)
        norms.append((before, norm(self)))

    monkeypatch.setattr(ForceMatching, "configure_gradient_clipping", clip)
    chosen = settings(system=LONG, optimiser={"gradient_clip": 0.05, "maximum_epochs": 1})
    train(chosen, tmp_path / "run", home=home)
    assert max(before for before, _ in norms) > 0.05
    for before, after in norms:
        assert after == pytest.approx(min(before, 0.05), rel=1e-3)


def test_mixed_precision_trains_as_well(home: Path, tmp_path: Path) -> None:
    exact = train(settings(system=LONG), tmp_path / "exact", home=home)
    mixed = train(settings(system=LONG, precision="bf16-mixed"), tmp_path / "mixed", home=home)
    assert mixed.engine == "torch"
    assert "bf16" in mixed.engine_reason
    assert mixed.validation_loss == pytest.approx(exact.validation_loss, rel=0.05)
    assert not same(weights(tmp_path / "mixed"), weights(tmp_path / "exact"))
    assert all(value.dtype == torch.float32 for value in weights(tmp_path / "mixed").values())
    with pytest.raises(ValueError, match="single precision"):
        settings(precision="bf16-mixed", engine="fused")


def test_divergence_names_place_and_protein_and_keeps_the_best(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The forces of one of two proteins are not finite in the second epoch."""
    original = ForceMatching.match

    def match(self: ForceMatching, batch: Any) -> ForceLoss:
        found = original(self, batch)
        if not (self.training and self.current_epoch == 1 and self.trainer.fit_loop.batch_idx == 2):
            return found
        forces = found.forces.clone()
        # The long protein's beads come last.
        forces[-2] = float("nan")
        return ForceLoss(found.loss * float("nan"), forces)

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(ForceMatching, "match", match)
        with pytest.raises(SimulationError, match=f"epoch 2, batch 2 .*{LONG}") as error:
            train(settings(), out, home=home)
    assert "chignolin" not in error.value.what
    assert error.value.exit_code == 5
    assert not (out / "model.pt").exists()
    kept = load_model(out / "last-good.pt")
    assert "diverged" in kept.spec.description
    best = weights_of(read_checkpoint(out / "logs/best.ckpt"))
    assert same(weights(out, "last-good.pt"), best)
    # From the last good checkpoint the run can be finished, as if nothing had happened.
    train(settings(), out, home=home, resume=True)
    train(settings(), tmp_path / "straight", home=home)
    assert same(weights(out), weights(tmp_path / "straight"))


def test_weights_that_are_not_finite_are_never_saved(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finite loss whose gradient is not: the checkpoint within the epoch stays the good one."""
    original = ForceMatching.on_after_backward

    def spoil(self: ForceMatching) -> None:
        original(self)
        if self.global_step == 2:
            self.network.embedding.weight.grad.fill_(float("nan"))  # type: ignore[union-attr]

    monkeypatch.setattr(ForceMatching, "on_after_backward", spoil)
    with pytest.raises(SimulationError, match="diverged"):
        train(settings(system=LONG), tmp_path / "run", home=home, checkpoint_minutes=1e-9)
    state = read_checkpoint(tmp_path / "run/logs/last.ckpt")
    assert state["global_step"] == 2
    assert all(bool(torch.isfinite(value).all()) for value in state["state_dict"].values())


@pytest.mark.parametrize("damage", ["architecture", "file"])
def test_checkpoint_that_is_not_of_this_run(
    damage: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    original = lightning.Trainer.__init__

    def init(self: lightning.Trainer, *args: Any, **options: Any) -> None:
        options["callbacks"] = [*options["callbacks"], Watch((1, 0))]
        original(self, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(lightning.Trainer, "__init__", init)
        with pytest.raises(KeyboardInterrupt):
            train(settings(system=LONG), out, home=home)
    path = out / "logs/last.ckpt"
    if damage == "file":
        path.write_bytes(path.read_bytes()[:100])
        with pytest.raises(IntegrityError, match=r"last\.ckpt"):
            train(settings(system=LONG), out, home=home, resume=True)
        return
    state = torch.load(path, weights_only=True)
    state["state_dict"]["network.embedding.weight"] = torch.zeros(23, 16)
    torch.save(state, path)
    with pytest.raises(ValidationError, match="another architecture") as error:
        train(settings(system=LONG), out, home=home, resume=True)
    assert "embedding.weight" in error.value.message
    assert "(23, 16)" in error.value.message


@pytest.mark.parametrize(
    ("types", "match"),
    [("unknown", "no residue of the vocabulary"), ("renumbered", "another numbering")],
)
def test_vocabularies_that_do_not_match(
    types: str, match: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cgbench.store import SystemStore

    found = SystemStore.bead_types.__get__  # type: ignore[attr-defined]

    def changed(self: SystemStore) -> Any:
        given = found(self).copy()
        if types == "unknown":
            given[2] = 18
        else:
            given[0], given[1] = given[1], given[0]
        return given

    monkeypatch.setattr(SystemStore, "bead_types", property(changed))
    with pytest.raises(ValidationError, match=match):
        train(settings(system=LONG), tmp_path / "run", home=home)
    assert not (tmp_path / "run").exists()


def test_network_without_a_row_for_a_residue(home: Path, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="max_bead_type"):
        train(settings(system=LONG, network={"max_bead_type": 10}), tmp_path / "run", home=home)
