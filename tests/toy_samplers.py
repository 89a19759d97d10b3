"""Small samplers and sets of structures for tests."""

from pathlib import Path

import numpy as np
import torch

from cgbench.nemo.internal import InternalCoordinates, to_cartesian
from cgbench.samplers import LearnedSampler, SamplerSpec
from cgbench.samplers.recurrent import RecurrentNetwork, RecurrentSettings
from cgbench.splits.cath import Domain
from cgbench.splits.cath_split import StructureSplit, code_text, divide
from cgbench.splits.cath_structures import (
    SPLIT_FILE,
    STRUCTURES_FILE,
    Structure,
    StructureSet,
    write_structures,
)

SMALL = RecurrentSettings(width=6, components=2, modes=2)


def toy_sampler(name: str = "toy", **spec: object) -> LearnedSampler:
    """A network with random weights."""
    torch.manual_seed(1)
    return LearnedSampler(RecurrentNetwork(SMALL).eval(), SamplerSpec(name=name, **spec))


def helix(n: int, turn: float = 50.0) -> np.ndarray:
    """A helix of Cα atoms with a dihedral angle in degrees."""
    z = InternalCoordinates(
        torch.full((1, n - 1), 3.8),
        torch.full((1, n - 2), np.deg2rad(91.0)),
        torch.full((1, n - 3), np.deg2rad(turn)),
    )
    return to_cartesian(z)[0].numpy().astype(np.float32)


def toy_domains(n_per_node: int = 2) -> list[Domain]:
    """Domains in three classes, each divided at every level."""
    domains = []
    codes = [(c, a, t, h) for c in (1, 2, 3) for a in (10, 20) for t in (5, 6) for h in (1, 2)]
    for place, code in enumerate(codes):
        for copy in range(n_per_node):
            name = f"{1 + copy}{chr(97 + place // 10)}{place % 10}xA00"
            domains.append(Domain(name, code, (1 + copy, 1, 1, 1), 30))
    return domains


def toy_structures(folder: Path, n_residues: int = 30) -> StructureSplit:
    """Write a split of helices and strands into a folder."""
    domains = toy_domains(1)
    rng = np.random.default_rng(1)
    letters = np.array(list("ADEFGHIKLM"))
    structures = StructureSet(
        [
            Structure(
                name=one.name,
                sequence="".join(rng.choice(letters, n_residues)),
                coordinates=helix(n_residues, 50.0 if one.code[0] == 1 else -170.0),
                intact=np.ones(n_residues - 1, dtype=bool),
            )
            for one in domains
        ]
    )
    split = StructureSplit(
        id="toy",
        seed=1,
        share=0.2,
        representatives="none",
        list_sha256="sha256:" + "0" * 64,
        structures=structures.fingerprint,
        codes={one.name: code_text(one) for one in domains},
        parts=divide(domains, seed=1, share=0.2),
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_structures(folder / STRUCTURES_FILE, structures)
    (folder / SPLIT_FILE).write_text(split.model_dump_json())
    return split
