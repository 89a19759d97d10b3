"""Structures of the sample's protein in every format, all atoms and beads alone."""

from pathlib import Path

import mdtraj
import numpy as np
from toy_reference import COIL, NATIVE

from cgbench import registry

SYSTEM = "chignolin-sample"
#: Three systems of the registry have this sequence.
SEQUENCE = registry.system(SYSTEM).sequence
NAMES = {bead.letter: bead.residues[0] for bead in registry.bead_vocabulary().beads}


def chains(n_frames, seed=0, noise=0.1):
    """Structures of the hairpin, half of them stretched, (n_frames, 10, 3) in Å."""
    random = np.random.default_rng(seed)
    folded = random.random(n_frames) < 0.5
    frames = np.where(folded[:, None, None], NATIVE, COIL)
    return (frames + random.normal(scale=noise, size=frames.shape)).astype(np.float32)


def beads_topology(sequence=SEQUENCE):
    """A topology of Cα atoms alone."""
    topology = mdtraj.Topology()
    chain = topology.add_chain()
    for letter in sequence:
        residue = topology.add_residue(NAMES[letter], chain)
        topology.add_atom("CA", mdtraj.element.carbon, residue)
    return topology


def atoms_topology(sequences=(SEQUENCE,), n_waters=3):
    """A topology with backbones of chains, a cap, calcium, and water; returns it and its Cα."""
    topology = mdtraj.Topology()
    for sequence in sequences:
        chain = topology.add_chain()
        cap = topology.add_residue("ACE", chain)
        topology.add_atom("CH3", mdtraj.element.carbon, cap)
        for letter in sequence:
            residue = topology.add_residue(NAMES[letter], chain)
            for name, element in (
                ("N", mdtraj.element.nitrogen),
                ("CA", mdtraj.element.carbon),
                ("C", mdtraj.element.carbon),
                ("O", mdtraj.element.oxygen),
            ):
                topology.add_atom(name, element, residue)
    solvent = topology.add_chain()
    ion = topology.add_residue("CA", solvent)
    topology.add_atom("CA", mdtraj.element.calcium, ion)
    for _ in range(n_waters):
        water = topology.add_residue("HOH", solvent)
        topology.add_atom("O", mdtraj.element.oxygen, water)
    carbons = [
        atom.index for atom in topology.atoms if atom.name == "CA" and atom.residue.name != "CA"
    ]
    return topology, np.array(carbons)


def with_atoms(frames, topology, carbons, seed=3):
    """Coordinates of all atoms: the Cα of given chains where they are, the rest anywhere."""
    random = np.random.default_rng(seed)
    full = random.normal(scale=20.0, size=(len(frames), topology.n_atoms, 3)).astype(np.float32)
    full[:, carbons] = frames
    return full


def write(path: Path, frames, topology, **options):
    """Write a trajectory of any format through mdtraj, which counts in nm."""
    trajectory = mdtraj.Trajectory(frames / 10.0, topology, **options)
    trajectory.save(str(path))
    return path
