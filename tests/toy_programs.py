"""A small potential as TorchScript and as a torch.export archive."""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn


class Springs(nn.Module):
    """Harmonic bonds whose stiffness depends on the bead types, forces written out."""

    def __init__(self, wrong: float = 1.0, energy_only: bool = False) -> None:
        super().__init__()
        self.stiffness = nn.Parameter(torch.linspace(0.5, 1.5, 64))
        self.wrong = wrong
        self.energy_only = energy_only

    def forward(self, bead_types: Tensor, pos: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
        if torch.jit.is_scripting():
            n_systems = int(batch[-1].item()) + 1
        else:
            # An exported program is told what the number read from a tensor can be.
            n_systems = batch[-1].item() + 1
            torch._check(n_systems >= 1)
            torch._check(n_systems <= pos.shape[0])
        bond = pos[1:] - pos[:-1]
        length = (bond * bond).sum(-1).sqrt()
        same = (batch[1:] == batch[:-1]).to(pos.dtype)
        scale = self.stiffness[bead_types].to(pos.dtype)
        constant = 10.0 * (scale[1:] + scale[:-1]) * same
        stretch = length - 3.8
        energy = torch.zeros(n_systems, dtype=pos.dtype, device=pos.device)
        energy = energy.index_add(0, batch[1:], constant * stretch * stretch)
        pull = (2.0 * self.wrong * constant * stretch / length)[:, None] * bond
        none = torch.zeros(1, 3, dtype=pos.dtype, device=pos.device)
        forces = torch.cat([pull, none]) - torch.cat([none, pull])
        if self.energy_only:
            forces = energy
        return energy, forces


class Differentiated(nn.Module):
    """The same energy with forces by automatic differentiation, as TorchMD-Net's models have it."""

    def __init__(self) -> None:
        super().__init__()
        self.springs = Springs()

    def forward(self, bead_types: Tensor, pos: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
        pos.requires_grad_(True)
        energy, _ = self.springs(bead_types, pos, batch)
        gradient = torch.autograd.grad([energy.sum()], [pos])[0]
        assert gradient is not None
        return energy[:, None], -gradient


def save_script(path: Path, module: nn.Module) -> Path:
    """Save as TorchScript."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module).save(str(path))
    return path


def save_exported(path: Path, module: nn.Module) -> Path:
    """Save as a torch.export archive, for any number of beads and systems."""
    n_beads = torch.export.Dim("n_beads", min=3, max=1_000_000)
    example = (
        torch.randint(1, 20, (24,)),
        torch.randn(24, 3),
        torch.arange(2).repeat_interleave(12),
    )
    program = torch.export.export(module, example, dynamic_shapes=({0: n_beads},) * 3)
    torch.export.save(program, path)
    return path
