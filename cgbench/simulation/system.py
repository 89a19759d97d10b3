"""What is simulated: a chain of beads and the structures to start from."""

import hashlib
from dataclasses import dataclass

import torch

from cgbench.errors import ValidationError


@dataclass(frozen=True)
class SystemInput:
    """One protein and its start frames.

    Args:
        key: Registry key, the name of the group in ``trajectories.zarr``.
        bead_types: (n_beads,) int64, the published vocabulary.
        starts: (n_starts, n_beads, 3) in Å; replica r starts from frame r modulo n_starts.
        sequence: One letter per bead.

    Raises:
        ValidationError: Bead counts disagree, or a start frame is not finite.
    """

    key: str
    bead_types: torch.Tensor
    starts: torch.Tensor
    sequence: str

    def __post_init__(self) -> None:
        n_beads = len(self.sequence)
        if tuple(self.bead_types.shape) != (n_beads,):
            raise ValidationError(
                f"{self.key}: bead types do not fit the sequence",
                expected=f"({n_beads},)",
                found=tuple(self.bead_types.shape),
            )
        shape = tuple(self.starts.shape)
        if len(shape) != 3 or shape[0] == 0 or shape[1:] != (n_beads, 3):
            raise ValidationError(
                f"{self.key}: start frames do not fit the system",
                expected=f"(at least 1, {n_beads}, 3)",
                found=shape,
                fix="give start frames of this protein, one Cα bead per residue",
            )
        finite = torch.isfinite(self.starts).all(dim=2).all(dim=1)
        if not bool(finite.all()):
            bad = torch.nonzero(~finite).flatten().tolist()
            raise ValidationError(
                f"{self.key}: start frames hold values that are not finite", found=f"frames {bad}"
            )

    @property
    def n_beads(self) -> int:
        """Number of beads."""
        return len(self.sequence)

    @property
    def fingerprint(self) -> str:
        """``sha256:`` over key, sequence, bead types and start frames."""
        digest = hashlib.sha256(f"{self.key}\n{self.sequence}\n".encode())
        digest.update(self.bead_types.cpu().to(torch.int64).numpy().tobytes())
        digest.update(self.starts.cpu().to(torch.float64).contiguous().numpy().tobytes())
        return f"sha256:{digest.hexdigest()}"
