"""Potentials that hold a fold, with or without looking at the sequence, and a home with variants.

The published force field keeps the chain whole; wells between beads in native contact hold the
fold. Where the sequence counts, a contact counts only between the beads that the wild type has
there, so that a variant keeps most contacts and a shuffled chain few.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cgbench import registry
from cgbench.evaluate.geometry import native_contacts
from cgbench.evaluate.native import read_native
from cgbench.ingest.variants import extract_variant, write_variant
from cgbench.models import PotentialSpec
from cgbench.priors import PriorParameters, prior_energy_forces

#: Entries at hand, by variant.
ENTRIES = {"homeodomain-1P7I": "1P7I.pdb", "proteinb-1GAB": "1GAB_model1_ca.pdb"}
NATIVES = {"homeodomain": "homeodomain_1ENH_ca.pdb", "proteinb": "proteinb_1PRB_ca.pdb"}


class FoldHolder(nn.Module):
    """Wells of a depth in kcal/mol and a width of 1 Å at the native distances of contacts.

    Args:
        native: (n_beads, 3) in Å.
        sequence: The sequence whose contacts count.
        prior: Keeps the chain whole.
        reads_sequence: Whether contacts count only between the beads of the sequence.
        depth: Depth of a well.
    """

    def __init__(
        self,
        native: np.ndarray,
        sequence: str,
        prior: PriorParameters,
        *,
        reads_sequence: bool,
        depth: float = 3.0,
    ) -> None:
        super().__init__()
        pairs, lengths = native_contacts(native)
        self.spec = PotentialSpec(name="fold-holder" if reads_sequence else "sequence-blind")
        self.prior = prior
        self.reads_sequence = reads_sequence
        self.depth = depth
        self.register_buffer("pairs", torch.from_numpy(pairs.copy()))
        self.register_buffer("lengths", torch.tensor(np.asarray(lengths), dtype=torch.float32))
        types = registry.bead_vocabulary().types(sequence)
        self.register_buffer("types", torch.tensor(types))

    def forward(self, bead_types: Tensor, pos: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Return energies and forces of chains of the native structure's length."""
        n_beads = len(self.types)
        chains, types = pos.reshape(-1, n_beads, 3), bead_types.reshape(-1, n_beads)
        first, second = self.pairs.T
        apart = chains[:, first] - chains[:, second]
        distance = apart.norm(dim=2)
        strength = torch.full_like(distance, self.depth)
        if self.reads_sequence:
            same = types == self.types
            strength = strength * (same[:, first] & same[:, second])
        well = strength * torch.exp(-((distance - self.lengths) ** 2) / 2.0)
        pull = (-well * (distance - self.lengths) / distance)[:, :, None] * apart
        forces = torch.zeros_like(chains)
        forces.index_add_(1, first, pull)
        forces.index_add_(1, second, -pull)
        energy, own = prior_energy_forces(self.prior, bead_types, pos, batch)
        return energy - well.sum(dim=1), own + forces.reshape(-1, 3)


def home_with_variants(home: Path, published: Path) -> Path:
    """Return a data home with the native structures that are at hand."""
    (home / "native").mkdir(parents=True, exist_ok=True)
    for key, name in ENTRIES.items():
        found = extract_variant(published / "mutants" / name, registry.mutant(key))
        write_variant(home / "native", found)
    for key, name in NATIVES.items():
        entry = registry.system(key)
        text = (published / "native" / name).read_text()
        for substitution in entry.substitutions:
            # As downloading does: the residue gets the name of the simulated one.
            text = renamed(text, int(substitution[1:-1]), substitution[-1])
        (home / "native" / f"{key}.pdb").write_text(text)
    return home


def renamed(text: str, bead: int, letter: str) -> str:
    """A pdb text with another residue name at a bead, counted from 1."""
    names = {one.letter: one.residues[0] for one in registry.bead_vocabulary().beads}
    lines = text.splitlines()
    atoms = [index for index, line in enumerate(lines) if line[12:16] == " CA "]
    place = atoms[bead - 1]
    lines[place] = lines[place][:17] + names[letter] + lines[place][20:]
    return "\n".join(lines) + "\n"


def holder(home: Path, parent: str, prior: PriorParameters, **options: bool) -> FoldHolder:
    """Return the potential that holds a parent's fold."""
    sequence = registry.system(parent).sequence
    native = read_native(home / "native" / f"{parent}.pdb", sequence)
    return FoldHolder(native, sequence, prior, **options)
