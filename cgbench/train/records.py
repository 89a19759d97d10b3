"""What a run folder says of itself: what it was started for, and how it ended."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

import pydantic

from cgbench import config
from cgbench.config import Frozen
from cgbench.errors import UsageError

#: What a run leaves in its folder that another run must not find.
_LEFT = (
    "model.pt",
    "last-good.pt",
    "training.json",
    "losses.png",
    "logs/last.ckpt",
    "logs/best.ckpt",
)


class SystemLoss(Frozen):
    """What a model learned of one system.

    Attributes:
        n_training_frames: Frames that trained.
        n_validation_frames: Frames that the loss is of.
        frame_stride: Every how many frames of a trajectory trained.
        validation_loss: Mean square of the differences of the delta forces, (kcal/mol/Å)²; None
            where the validation part has none of it.
        validation_variance: The same of a network that predicts nothing.
        explained: Share of the variance that the network explains.
    """

    n_training_frames: int
    n_validation_frames: int
    frame_stride: int = 1
    validation_loss: float | None = None
    validation_variance: float | None = None
    explained: float | None = None


class TrainingOutcome(Frozen):
    """What a finished run says of itself (``training.json``).

    Losses are mean squared differences of the delta forces, (kcal/mol/Å)², on the validation
    part; ``explained`` is the share of their variance that the network explains there. ``engine``
    is what computed losses and gradients, with the reason. ``systems`` holds the same by system;
    of several, ``validation_loss`` is the mean over components in the shares of a training batch.

    ``seconds`` is wall time, ``cpu_seconds`` the time of processors over all threads and
    processes, None in records of earlier versions; ``gpu_hours`` is wall time times GPUs, None
    where none was used. Work that a killed process had done since its last checkpoint is in none.
    """

    fingerprint: str
    epochs: int
    best_epoch: int
    validation_loss: float
    validation_variance: float
    explained: float
    seconds: float
    cpu_seconds: float | None = None
    gpu_hours: float | None = None
    n_parameters: int
    engine: str = "torch"
    engine_reason: str = ""
    systems: dict[str, SystemLoss] = pydantic.Field(default_factory=dict)
    n_processes: int = 1


class RunState(Frozen):
    """What a run folder was started for, and the time spent in it before this process.

    Attributes:
        fingerprint: Of configuration and data.
        seconds: Wall time.
        cpu_seconds: Time of processors; None where an earlier version has begun the run.
    """

    fingerprint: str
    seconds: float = 0.0
    cpu_seconds: float | None = None


@contextlib.contextmanager
def alone(out: Path) -> Iterator[None]:
    """Hold a run folder, which is made if need be, for one process at a time.

    The operating system releases it when the process ends, however it ends.

    Raises:
        UsageError: Another process trains in it.
    """
    out.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        try:
            handle = held.enter_context((out / ".lock").open("a"))
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"{out}: another process trains in this folder",
                fix="wait for it, or choose another --out",
            ) from error
        except OSError:
            # What has no locks, or cannot be written to, is used without.
            pass
        yield


def take_folder(out: Path, fingerprint: str, resume: bool, force: bool) -> RunState:
    """Decide whether a folder is new, ours to continue, or somebody else's.

    Raises:
        UsageError: It holds another run, or an unfinished one that is not to be continued.
    """
    path = out / "run.json"
    fresh = RunState(fingerprint=fingerprint, cpu_seconds=0.0)
    if force or not path.is_file():
        for name in _LEFT:
            (out / name).unlink(missing_ok=True)
        config.write_model(path, fresh)
        return fresh
    state = config.read_model(RunState, path)
    if state.fingerprint != fingerprint:
        raise UsageError(
            f"{out}: holds a run of another configuration, data set or split",
            expected=fingerprint,
            found=state.fingerprint,
            fix="choose another --out, or --force to start over",
        )
    if not resume and not (out / "training.json").is_file():
        raise UsageError(
            f"{out}: holds an unfinished run", fix="--resume to continue it, --force to start over"
        )
    return state
