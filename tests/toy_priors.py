"""Made-up priors and random chains."""

import itertools

import numpy as np
import torch
from numpy.typing import NDArray

from cgbench.priors import BondTerm, DihedralSet, DihedralTerm, Prior, PriorParameters

TYPES = (1, 4, 8)


def random_parameters(seed: int, largest_n: int = 3) -> PriorParameters:
    generator = np.random.default_rng(seed)

    def fourier() -> tuple[DihedralTerm, ...]:
        return tuple(
            DihedralTerm(n=n, k=generator.normal(), gamma=generator.uniform(-180, 180))
            for n in range(1, largest_n + 1)
        )

    return PriorParameters(
        bonds={
            f"{first}-{second}": BondTerm(k=generator.uniform(20, 120), r0=generator.uniform(3, 4))
            for first, second in itertools.product(TYPES, repeat=2)
        },
        repulsion={number: generator.uniform(500, 4000) for number in TYPES},
        dihedrals=(
            DihedralSet(types=None, terms=fourier()),
            DihedralSet(types=(1, 4, 8, 1), terms=fourier()),
        ),
        temperature=350.0,
    )


def random_chains(seed: int, n_replicas: int, n_beads: int) -> NDArray[np.float64]:
    """Random walks with bonds of 3 to 4.5 Å that keep beads 1.5 Å apart and bonds off a line."""
    generator = np.random.default_rng(seed)
    chains: list[NDArray[np.float64]] = []
    while len(chains) < n_replicas:
        chain = [np.zeros(3)]
        while len(chain) < n_beads:
            step = generator.normal(size=3)
            bead = chain[-1] + step * generator.uniform(3.0, 4.5) / np.linalg.norm(step)
            near = min(np.linalg.norm(bead - other) for other in chain)
            straight = len(chain) > 1 and np.linalg.norm(
                np.cross(bead - chain[-1], chain[-1] - chain[-2])
            )
            if near > 1.5 and (len(chain) < 2 or straight > 1.0):
                chain.append(bead)
        chains.append(np.array(chain))
    return np.array(chains)


def case(seed: int, n_replicas: int, n_beads: int) -> tuple[Prior, torch.Tensor]:
    generator = np.random.default_rng(seed)
    types = generator.choice(TYPES, n_beads).tolist()
    prior = Prior(random_parameters(seed), types)
    return prior, torch.tensor(random_chains(seed, n_replicas, n_beads))
