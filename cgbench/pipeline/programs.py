"""One way to any potential: data of our own format, programs, and models of other programs."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cgbench.errors import UsageError, ValidationError
from cgbench.models import (
    NetworkPotential,
    ProgramPotential,
    load_model,
    load_program,
    model_hash,
)
from cgbench.models.files import is_program
from cgbench.models.programs import PROGRAM_SUFFIXES
from cgbench.models.zoo import find_weights
from cgbench.results import AdapterIdentity

if TYPE_CHECKING:
    from cgbench.adapters import AdapterChoice

#: What is checked, simulated and scored; models of other programs are programs to the rest.
AnyPotential = NetworkPotential | ProgramPotential

#: Endings of training checkpoints: not models of ours, whatever an adapter makes of them.
_CHECKPOINTS = (".ckpt",)


@dataclass(frozen=True)
class Opened:
    """A potential, and what is known of where it comes from.

    Attributes:
        path: The file, or the folder, that an adapter was given.
        potential: What is in it.
        hash: ``sha256:…`` that names the model with everything that decides what it computes.
        adapter: How it came in; None for models and programs that need no adapter.
    """

    path: Path
    potential: AnyPotential
    hash: str
    adapter: AdapterIdentity | None = None


def find_potential(name_or_path: str | Path, home: Path | None = None) -> Path:
    """Return the file of a potential: a path with the ending of one, or a model's name.

    Raises:
        UsageError: It is nowhere, or it is a training checkpoint.
    """
    path = Path(name_or_path).expanduser()
    if path.suffix in _CHECKPOINTS:
        raise UsageError(
            f"{path}: a training checkpoint, not a model",
            expected="a model.pt, a program, or --adapter",
            fix="for TorchMD-Net give --adapter torchmdnet; for one of cgbench take its model.pt",
        )
    if path.suffix in PROGRAM_SUFFIXES:
        if not path.is_file():
            raise UsageError(f"{path}: no such model")
        return path
    return find_weights(name_or_path, home)


def load_potential(
    name_or_path: str | Path,
    home: Path | None = None,
    *,
    trust: bool = False,
    name: str | None = None,
    adapter: "AdapterChoice | None" = None,
) -> AnyPotential:
    """Load a potential: a ``model.pt`` of our own format, a program, or through an adapter.

    Args:
        name_or_path: A file, or the name of a model.
        home: Data home.
        trust: Whether a program may be opened, or an adapter may run foreign code. Files of our
            own format hold no code and need no trust. Never given in verification.
        name: What a program is called in results; a ``model.pt`` has its own name.
        adapter: Which adapter opens it; None for models of ours and programs.

    Raises:
        UsageError: Nothing there, or a program or adapter that is not trusted.
        IntegrityError: Damaged, oversized or unsafe.
        ValidationError: Its parts do not fit together.
    """
    return open_potential(name_or_path, home, trust=trust, name=name, adapter=adapter).potential


def open_potential(
    name_or_path: str | Path,
    home: Path | None = None,
    *,
    trust: bool = False,
    name: str | None = None,
    adapter: "AdapterChoice | None" = None,
) -> Opened:
    """Load a potential with its path, its hash and how it came in; as ``load_potential``."""
    if adapter is not None:
        return _adapted(Path(name_or_path).expanduser(), adapter, trust, name)
    path = find_potential(name_or_path, home)
    if is_program(path):
        return Opened(path, load_program(path, trust=trust, name=name), model_hash(path))
    return Opened(path, load_model(path), model_hash(path))


def _adapted(path: Path, choice: "AdapterChoice", trust: bool, name: str | None) -> Opened:
    from cgbench.adapters import adapted_hash, load_adapted

    adapted = load_adapted(choice, path, trust=trust, name=name)
    if not isinstance(adapted.potential, NetworkPotential | ProgramPotential):
        raise ValidationError(
            f"--adapter {choice.name}: made no potential", found=type(adapted.potential).__name__
        )
    return Opened(
        path,
        adapted.potential,
        adapted_hash(path, choice, adapted.identity),
        adapted.identity,
    )


def choice_of(name: str | None, options: list[str] | None) -> "AdapterChoice | None":
    """Return what ``--adapter`` and ``--adapter-option`` say; None without an adapter.

    Raises:
        UsageError: Options without an adapter, or one that is no ``KEY=VALUE``.
    """
    if name is None and not options:
        return None
    from cgbench.adapters import AdapterChoice

    return AdapterChoice.parse(name, options)


def adapter_notes(identity: AdapterIdentity | None) -> list[str]:
    """Return what a result says of the adapter that opened its model."""
    if identity is None:
        return []
    runs = f" running {', '.join(identity.runs)}" if identity.runs else ""
    foreign = "foreign code" if identity.foreign_code else "no foreign code"
    opened = f"Opened by the adapter {identity.name} {identity.version}{runs}: {foreign}."
    return [opened[:2000], *identity.notes]
