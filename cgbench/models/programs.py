"""Potentials that are programs: torch.export archives and TorchScript, run only when trusted.

A program is called as every potential is: bead types (n_beads,) int64, positions (n_beads, 3) in Å
and the system of each bead (n_beads,) int64 give energies (n_systems,) in kcal/mol and forces
(n_beads, 3) in kcal/mol/Å. It holds code, so its file is opened only where the caller says that
it is trusted. What ``model.pt`` says of itself stands beside it, in a JSON file of the same name.
"""

import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from cgbench.config import read_data, validate
from cgbench.errors import CgbenchError, IntegrityError, UsageError, ValidationError
from cgbench.models.files import is_program
from cgbench.models.potential import ChainResult, PotentialSpec

#: Endings that a program may have; ``.pt`` may be a program or data.
PROGRAM_SUFFIXES = (".pt2", ".ts", ".pt", ".pth", ".jit")


class _Exported:
    """The callable of a torch.export archive, which is fixed: precision, device and weights.

    Kept out of the module tree: an exported graph refuses ``eval``, and copies of it are the same.
    """

    def __init__(self, module: Callable[..., Any]) -> None:
        self._module = module

    def __call__(self, *arguments: Tensor) -> Any:
        return self._module(*arguments)

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Exported":
        return self


class ProgramPotential(nn.Module):
    """A program under the calling convention of potentials.

    Args:
        program: A TorchScript module, the callable of an exported one, or any other.
        spec: What is said of it.
    """

    #: What messages call it.
    kind: ClassVar[str] = "program"

    def __init__(self, program: Callable[..., Any], spec: PotentialSpec) -> None:
        super().__init__()
        self.program = program
        self.spec = spec

    def forward(self, bead_types: Tensor, pos: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Return energies (n_systems,) and forces (n_beads, 3) of a flat batch.

        Raises:
            ValidationError: The program fails on this input, or returns something else.
        """
        # A program may differentiate, and may change what it is given: it gets copies of its own.
        with torch.inference_mode(False), torch.enable_grad():
            arguments = [tensor.detach().clone() for tensor in (bead_types, pos, batch)]
            try:
                result = self.program(*arguments)
            except CgbenchError:
                raise
            # Foreign code may raise anything; the caller is told which program it was.
            except Exception as error:
                raise ValidationError(
                    f"{self.spec.name}: the {self.kind} failed on {len(pos)} beads",
                    expected="(bead_types, pos, batch) → (energy, forces)",
                    found=_summary(error),
                ) from error
        pair = isinstance(result, tuple | list) and len(result) == 2
        if not pair or not all(isinstance(one, Tensor) for one in result):
            raise ValidationError(
                f"{self.spec.name}: the {self.kind} does not return two tensors",
                expected="(energy, forces)",
                found=type(result).__name__,
            )
        energy, forces = result
        return energy.detach(), forces.detach()

    def chains(self, bead_types: Tensor, pos: Tensor) -> ChainResult:
        """Return energies and forces of R replicas of one chain; all energy is the network's.

        Args:
            bead_types: (N,) int64.
            pos: (R, N, 3) in Å.

        Raises:
            ValidationError: The program fails on this input, or returns wrong shapes.
        """
        n_replicas, n_beads, _ = pos.shape
        batch = torch.arange(n_replicas, device=pos.device).repeat_interleave(n_beads)
        energy, forces = self(bead_types.repeat(n_replicas), pos.reshape(-1, 3), batch)
        if energy.numel() != n_replicas or forces.numel() != pos.numel():
            raise ValidationError(
                f"{self.spec.name}: wrong shapes from the {self.kind}",
                expected=f"energy ({n_replicas},) and forces ({n_replicas * n_beads}, 3)",
                found=f"{tuple(energy.shape)} and {tuple(forces.shape)}",
            )
        energy = energy.reshape(n_replicas)
        return ChainResult(energy, torch.zeros_like(energy), forces.reshape(pos.shape))


def load_program(path: Path, *, trust: bool, name: str | None = None) -> ProgramPotential:
    """Load a program and what is said of it in ``<name>.json`` beside it.

    Args:
        path: A torch.export archive (``.pt2``) or a TorchScript file.
        trust: Whether the caller trusts the file; opening it may run its code.
        name: Name of the potential; that of the JSON file, or of the file, if None.

    Raises:
        UsageError: No such file, not a program, or not trusted.
        IntegrityError: Damaged or oversized.
        ValidationError: The JSON file is not a valid specification.
    """
    if not is_program(path):
        raise UsageError(f"{path}: not a program", expected="a torch.export archive or TorchScript")
    if not trust:
        raise UsageError(
            f"{path}: a program (TorchScript or torch.export); opening it may run code",
            fix="give --trust if you know where it comes from",
        )
    return ProgramPotential(_load(path), program_spec(path, name))


def program_spec(path: Path, name: str | None = None) -> PotentialSpec:
    """Return what is said of a program: the JSON file beside it, or no more than a name.

    Raises:
        IntegrityError: The JSON file cannot be parsed.
        ValidationError: It is not a valid specification.
    """
    beside = path.with_suffix(".json")
    if not beside.is_file():
        return PotentialSpec(name=name or path.stem)
    data = read_data(beside)
    if isinstance(data, dict):
        data = {"name": path.stem, **data} | ({} if name is None else {"name": name})
    return validate(PotentialSpec, data, beside)


def _load(path: Path) -> nn.Module | _Exported:
    try:
        if _is_exported(path):
            return _Exported(torch.export.load(path).module())
        with warnings.catch_warnings():
            # Deprecated for making programs; those that exist are what this reads.
            warnings.simplefilter("ignore", DeprecationWarning)
            program: nn.Module = torch.jit.load(  # type: ignore[no-untyped-call]
                str(path), map_location="cpu"
            )
        return program.eval()
    # torch reports damage and versions that do not fit in many ways.
    except Exception as error:
        raise IntegrityError(
            f"{path}: the program cannot be loaded",
            expected=f"made by torch {torch.__version__} or a version that it can read",
            found=_summary(error),
        ) from error


def _is_exported(path: Path) -> bool:
    """Tell an archive of torch.export from TorchScript, which keeps its source under ``code/``."""
    with zipfile.ZipFile(path) as archive:
        return not any("/code/" in name for name in archive.namelist())


def _summary(error: Exception) -> str:
    """Return the most telling line of an error: TorchScript puts the cause in the last one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    cause = next((line for line in reversed(lines) if "Error" in line), lines[0])
    return f"{type(error).__name__}: {cause}"[:300]
