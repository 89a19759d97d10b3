"""One way to any potential: data of our own format, or a program where it is trusted."""

from pathlib import Path

from cgbench.errors import UsageError
from cgbench.models import NetworkPotential, ProgramPotential, load_model, load_program
from cgbench.models.files import is_program
from cgbench.models.programs import PROGRAM_SUFFIXES
from cgbench.store import find_model

#: What is checked, simulated and scored.
AnyPotential = NetworkPotential | ProgramPotential


def find_potential(name_or_path: str | Path, home: Path | None = None) -> Path:
    """Return the file of a potential: a path with the ending of one, or a model's name.

    Raises:
        UsageError: It is nowhere.
    """
    path = Path(name_or_path).expanduser()
    if path.suffix in PROGRAM_SUFFIXES:
        if not path.is_file():
            raise UsageError(f"{path}: no such model")
        return path
    return find_model(name_or_path, home)


def load_potential(
    name_or_path: str | Path,
    home: Path | None = None,
    *,
    trust: bool = False,
    name: str | None = None,
) -> AnyPotential:
    """Load a potential: a ``model.pt`` of our own format, or a program.

    Args:
        name_or_path: A file, or the name of a model.
        home: Data home.
        trust: Whether a program may be opened, which may run its code. Files of our own format
            hold no code and need no trust. Never given in verification.
        name: What a program is called in results; a ``model.pt`` has its own name.

    Raises:
        UsageError: Nothing there, or a program that is not trusted.
        IntegrityError: Damaged, oversized or unsafe.
        ValidationError: Its parts do not fit together.
    """
    path = find_potential(name_or_path, home)
    if is_program(path):
        return load_program(path, trust=trust, name=name)
    return load_model(path)
