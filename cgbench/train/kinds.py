"""Which kind of model a training configuration is for, and what trains it."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from cgbench import config
from cgbench.config import Frozen
from cgbench.errors import UsageError, ValidationError
from cgbench.progress import Progress, silent
from cgbench.train.config import TrainingConfig

if TYPE_CHECKING:
    from cgbench.train.records import TrainingOutcome
    from cgbench.train.sampler_records import SamplerOutcome

#: A configuration of any kind; all have ``name``, ``seed`` and ``systems``.
AnyConfig: TypeAlias = Any

GRAPH_NETWORK: Final = "graph-network"
#: For each other kind: module below ``cgbench.train``, its configuration and its function.
_OTHERS: Final = {
    "pair-spline": ("pair_spline", "PairSplineConfig", "train_pair_spline"),
    "go-model": ("go_model", "GoModelConfig", "train_go_model"),
    "nemo": ("nemo", "NemoConfig", "train_nemo"),
    "recurrent": ("recurrent", "RecurrentConfig", "train_recurrent"),
}
KINDS: Final = (GRAPH_NETWORK, *_OTHERS)
#: Those that make a ``sampler.pt``; the others make a ``model.pt``.
SAMPLERS: Final = ("nemo", "recurrent")


def config_class(kind: str) -> type[Frozen]:
    """Return the model of the configurations of a kind.

    Raises:
        ValidationError: There is no such kind.
    """
    if kind == GRAPH_NETWORK:
        return TrainingConfig
    if kind not in _OTHERS:
        raise ValidationError(
            f"kind {kind!r}: no such kind of training", expected=", ".join(KINDS), found=kind
        )
    module, name, _ = _OTHERS[kind]
    found: type[Frozen] = getattr(import_module(f"cgbench.train.{module}"), name)
    return found


def read_config(path: Path, overrides: list[str] | None = None) -> AnyConfig:
    """Read a training configuration of any kind and apply ``key.subkey=value`` overrides.

    Raises:
        UsageError: An override is not of that form, or names a section that does not exist.
        ValidationError: The kind or a key is unknown, or a value is of the wrong type or range.
    """
    data: Any = config.read_data(path)
    if not isinstance(data, dict):
        raise UsageError(f"{path}: not a mapping of settings", found=type(data).__name__)
    for override in overrides or []:
        apply_override(data, override)
    return as_config(data, path)


def apply_override(data: dict[str, Any], override: str) -> None:
    """Change settings by one ``key.subkey=value``, in place.

    Raises:
        UsageError: It is not of that form, or names a section that is a value.
    """
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise UsageError(f"--set {override}: not an override", expected="key.subkey=value")
    set_value(data, key, config.parse_yaml(text, f"--set {override}"), f"--set {override}")


def set_value(data: dict[str, Any], key: str, value: Any, origin: str) -> None:
    """Set ``key.subkey`` of nested settings, in place.

    Raises:
        UsageError: A part of the key is a value, not a section.
    """
    *sections, last = key.split(".")
    # One name for one thing: else both would be there.
    if not sections and last in ("system", "systems"):
        data.pop("system", None)
        data.pop("systems", None)
    target = data
    for section in sections:
        target = target.setdefault(section, {})
        if not isinstance(target, dict):
            raise UsageError(f"{origin}: {section} is a value, not a section")
    target[last] = value


def as_config(data: dict[str, Any], origin: object) -> AnyConfig:
    """Validate settings as the configuration of their kind.

    Raises:
        ValidationError: The kind or a key is unknown, or a value is of the wrong type or range.
    """
    kind = data.get("kind", GRAPH_NETWORK)
    if kind not in KINDS:
        raise ValidationError(
            f"{origin}: kind: no such kind of training", expected=", ".join(KINDS), found=kind
        )
    return config.validate(config_class(kind), data, origin)


def _trainer(kind: str) -> Callable[..., Any]:
    """Return what trains a kind other than a graph network."""
    module, _, name = _OTHERS[kind]
    found: Callable[..., Any] = getattr(import_module(f"cgbench.train.{module}"), name)
    return found


def train(
    settings: AnyConfig,
    out: Path,
    *,
    home: Path | None = None,
    resume: bool = False,
    force: bool = False,
    checkpoint_minutes: float | None = 10.0,
    progress: Progress = silent,
) -> "TrainingOutcome":
    """Train a potential of any kind and write ``model.pt``.

    Args:
        settings: A configuration, from ``read_config``.
        out: The run folder.
        home: Data home to look names up in.
        resume: Continue an unfinished run; kinds that take seconds simply start again.
        force: Start over.
        checkpoint_minutes: Time between checkpoints within an epoch, where there are epochs.
        progress: Told how far it is.

    Raises:
        UsageError: A system, split or force map is unknown, the folder holds another run, another
            process trains in it, or the configuration is that of a sampler.
        SimulationError: The training diverged.
    """
    if settings.kind in SAMPLERS:
        raise UsageError(
            f"{settings.name}: kind {settings.kind} is a sampler, no potential",
            fix="cgbench train CONFIG, or cgbench.train.train_sampler",
        )
    if isinstance(settings, TrainingConfig):
        from cgbench.train.run import train as train_network

        return train_network(
            settings,
            out,
            home=home,
            resume=resume,
            force=force,
            checkpoint_minutes=checkpoint_minutes,
            progress=progress,
        )
    from cgbench.train.records import alone

    run: Callable[..., TrainingOutcome] = _trainer(settings.kind)
    # A graph network's processes hold their folder by themselves.
    with alone(out):
        return run(settings, out, home=home, force=force, progress=progress)


def train_sampler(
    settings: AnyConfig,
    out: Path,
    *,
    home: Path | None = None,
    resume: bool = False,
    force: bool = False,
    checkpoint_minutes: float | None = 10.0,
    progress: Progress = silent,
) -> "SamplerOutcome":
    """Train a sampler of any kind and write ``sampler.pt``; arguments are those of ``train``.

    Raises:
        UsageError: A system or split is unknown, the folder holds another run, another process
            trains in it, or the configuration is that of a potential.
        SimulationError: The training diverged.
    """
    if settings.kind not in SAMPLERS:
        raise UsageError(
            f"{settings.name}: kind {settings.kind} is a potential, no sampler",
            fix="cgbench train CONFIG, or cgbench.train.train",
        )
    from cgbench.train.records import alone

    run: Callable[..., SamplerOutcome] = _trainer(settings.kind)
    with alone(out):
        return run(
            settings,
            out,
            home=home,
            resume=resume,
            force=force,
            checkpoint_minutes=checkpoint_minutes,
            progress=progress,
        )
