"""Compares prior energies and forces with TorchMD's, on all twelve proteins of the reference work.

Runs in the environment of requirements.txt. The published force field and starting frames are read
from ``--data``; a made-up chain with a made-up force field goes with them, so that a part of the
comparison needs no data. ::

    python benchmarks/peers/priors_torchmd.py --data DIR --cgbench-python PYTHON
    python benchmarks/peers/priors_torchmd.py --data DIR --write

The first evaluates both programs now and prints the largest differences. The second writes
TorchMD's numbers to tests/golden/, where the tests of cgbench read them.

TorchMD 1.1.2 does not run the published settings as they stand. What is done about it here:

- ``Parameters`` lacks the matrices that ``RepulsionCG`` reads: ``par.A, par.B = par.get_AB()``.
- Masses of zero in the psf go before those of the force field; they are set to 12 amu.
- Tables are built in torch's default data type; it is set to double, otherwise parameters carry the
  rounding of single precision (6e-8) into double precision.
- The box is zero, which ``Forces`` takes as no box (the integrators make NaN of it).
"""

import argparse
import importlib.metadata
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden" / "priors_torchmd.npz"
FORCE_FIELD = "prior_force_field.yaml"
TERMS = {"bonds": "bonds", "repulsion": "repulsioncg", "dihedrals": "dihedrals"}
N_FORCE_FRAMES = 3
SYNTHETIC = "synthetic"
BOUND = 1e-9


@dataclass
class Case:
    """A chain, its force field and its frames."""

    name: str
    force_field: Path
    topology: Path
    positions: np.ndarray  # (n_frames, n_beads, 3) float64, Å


def synthetic_force_field() -> str:
    """A force field of three bead types in the published format; all numbers are made up."""
    types = ("CAA", "CAG", "CAL")
    generator = np.random.default_rng(20240)
    lines = ["atomtypes:", *(f"- {name}" for name in types), "bonds:"]
    for first in types:
        for second in types:
            k, r0 = float(generator.uniform(50, 120)), float(generator.uniform(3.7, 3.9))
            lines += [f"  ({first}, {second}):", f"    k0: {k}", f"    req: {r0}"]
    lines += ["dihedrals:", "  (X, X, X, X):", "    terms:"]
    for n, k, phase in ((1, 0.31, 37.5), (2, 0.47, -112.25)):
        lines += [f"    - phi_k: {k}", f"      phase: {phase}", f"      per: {n}"]
    lines += ["    scnb: 1", "    scee: 1", "lj:"]
    for name in types:
        epsilon = float(generator.uniform(1500, 3500))
        lines += [f"  {name}:", f"    epsilon: {epsilon}", "    sigma: 1.0"]
        lines += [f"    epsilon14: {epsilon}", "    sigma14: 1.0"]
    lines += ["electrostatics:", *(f"  {name}:\n    charge: 0.0" for name in types)]
    lines += ["masses:", *(f"  {name}: 12.0" for name in types)]
    return "\n".join(lines) + "\n"


def synthetic_topology() -> str:
    """The psf of a chain of 13 beads that holds all nine ordered pairs of the three types."""
    residues = [("ALA", "GLY", "LEU")[index] for index in (0, 0, 1, 1, 2, 2, 0, 2, 1, 0, 1, 2, 0)]
    types = {"ALA": "CAA", "GLY": "CAG", "LEU": "CAL"}
    n = len(residues)
    lines = ["PSF NAMD", "", f"{n:8d} !NATOM"]
    lines += [
        f"{index:8d} A    {index:<4d} {name}  CA   {types[name]}   0.000000   0.0000   0"
        for index, name in enumerate(residues, start=1)
    ]
    for width, header in ((2, "NBOND: bonds"), (3, "NTHETA: angles"), (4, "NPHI: dihedrals")):
        starts = [] if width == 3 else range(1, n - width + 2)
        words = [f"{start + shift:8d}" for start in starts for shift in range(width)]
        lines += ["", f"{len(starts):8d} !{header}"]
        lines += ["".join(words[at : at + 8]) for at in range(0, len(words), 8)]
    lines += ["", f"{0:8d} !NIMPHI: impropers", ""]
    return "\n".join(lines) + "\n"


def synthetic_positions() -> np.ndarray:
    """Random chains with bonds of 3.3 to 4.3 Å and no two beads closer than 3 Å."""
    generator = np.random.default_rng(20241)
    chains: list[np.ndarray] = []
    while len(chains) < 8:
        steps = generator.normal(size=(13, 3))
        steps *= generator.uniform(3.3, 4.3, size=(13, 1)) / np.linalg.norm(steps, axis=1)[:, None]
        chain = steps.cumsum(0)
        distances = np.linalg.norm(chain[:, None] - chain[None], axis=-1)
        if distances[np.triu_indices(13, 1)].min() > 3.0:
            chains.append(chain)
    return np.array(chains)


def cases(data: Path | None, folder: Path) -> list[Case]:
    """The synthetic chain, written to a folder, and the published proteins if data are at hand."""
    force_field, topology = folder / f"{SYNTHETIC}.yaml", folder / f"{SYNTHETIC}.psf"
    force_field.write_text(synthetic_force_field())
    topology.write_text(synthetic_topology())
    found = [Case(SYNTHETIC, force_field, topology, synthetic_positions())]
    if data is None:
        return found
    import mdtraj

    for psf in sorted((data / "topology").glob("*.psf")):
        xtc = data / "starting_frames" / f"{psf.stem}_kcenters_32clusters_coords.xtc"
        with mdtraj.formats.XTCTrajectoryFile(str(xtc)) as file:
            nanometres = file.read()[0]
        positions = nanometres.astype(np.float64) * 10.0
        found.append(Case(psf.stem, data / FORCE_FIELD, psf, positions))
    return found


def evaluate_torchmd(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Energies (n_frames, 3 terms) and forces (n_frames, n_beads, 3) from TorchMD."""
    import torch
    from moleculekit.molecule import Molecule
    from torchmd.forcefields.forcefield import ForceField
    from torchmd.forces import Forces
    from torchmd.parameters import Parameters

    torch.set_default_dtype(torch.float64)
    molecule = Molecule(str(case.topology))
    molecule.masses = np.full(molecule.numAtoms, 12.0, dtype=np.float32)
    terms = list(TERMS.values())
    parameters = Parameters(
        ForceField.create(molecule, str(case.force_field)), molecule, terms, precision=torch.float64
    )
    parameters.A, parameters.B = parameters.get_AB()
    forces = Forces(parameters, terms=terms, exclusions=("bonds",))
    positions = torch.tensor(case.positions)
    result = torch.zeros_like(positions)
    box = torch.zeros(len(positions), 3, 3)
    energies = forces.compute(positions, box, result, returnDetails=True)
    table = np.array([[frame[name] for name in terms] for frame in energies])
    assert np.isfinite(table).all()
    assert torch.isfinite(result).all()
    return table, result.numpy()


def evaluate_cgbench(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """The same from cgbench; bead types come from the psf's residue names."""
    import torch

    from cgbench import registry
    from cgbench.priors import Prior, read_psf, read_published_prior

    beads = registry.bead_vocabulary()
    types = beads.types(beads.sequence(read_psf(case.topology).residues))
    prior = Prior(read_published_prior(case.force_field), types)
    positions = torch.tensor(case.positions)
    by_term = prior.energies_by_term(positions)
    _, forces = prior.energy_forces(positions)
    return torch.stack([by_term[name] for name in TERMS], 1).numpy(), forces.numpy()


def write_golden(found: list[Case], folder: Path) -> None:
    """Write TorchMD's numbers: energies of all frames, forces of the first few."""
    versions = {
        name: importlib.metadata.version(name)
        for name in ("torchmd", "moleculekit", "mdtraj", "torch", "numpy")
    }
    versions["python"] = platform.python_version()
    arrays = {
        "versions": np.array([f"{name} {version}" for name, version in versions.items()]),
        "terms": np.array(list(TERMS)),
        "proteins": np.array([case.name for case in found if case.name != SYNTHETIC]),
        f"{SYNTHETIC}/force_field": np.array((folder / f"{SYNTHETIC}.yaml").read_text()),
        f"{SYNTHETIC}/topology": np.array((folder / f"{SYNTHETIC}.psf").read_text()),
        f"{SYNTHETIC}/positions": synthetic_positions(),
    }
    for case in found:
        energies, forces = evaluate_torchmd(case)
        arrays[f"{case.name}/energies"] = energies
        arrays[f"{case.name}/forces"] = forces[:N_FORCE_FRAMES]
    GOLDEN.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(GOLDEN, **arrays)
    print(f"{GOLDEN}: {GOLDEN.stat().st_size / 1024:.0f} KiB, {', '.join(arrays['versions'])}")


def compare(found: list[Case], ours: dict[str, np.ndarray]) -> bool:
    """Print the largest relative differences of energies and forces; say whether all are small."""
    print(f"{'system':<14}{'beads':>6}{'energy':>12}{'force':>12}   (largest relative difference)")
    agreed = True
    for case in found:
        energies, forces = evaluate_torchmd(case)
        energy = np.abs(ours[f"{case.name}/energies"] / energies - 1.0).max()
        scale = np.linalg.norm(forces, axis=(1, 2))
        force = (np.linalg.norm(ours[f"{case.name}/forces"] - forces, axis=(1, 2)) / scale).max()
        agreed &= bool(max(energy, force) <= BOUND)
        print(f"{case.name:<14}{case.positions.shape[1]:>6}{energy:>12.1e}{force:>12.1e}")
    print("agree" if agreed else f"DISAGREE: bound {BOUND:g}")
    return agreed


def main() -> int:
    """Run one of the three modes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the published files")
    parser.add_argument("--write", action="store_true", help="write the golden file")
    parser.add_argument("--cgbench-python", default=sys.executable, help="python with cgbench")
    parser.add_argument("--export", type=Path, help="write cgbench's numbers there and stop")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = cases(arguments.data, folder)
        if arguments.export:
            arrays = {}
            for case in found:
                energies, forces = evaluate_cgbench(case)
                arrays |= {f"{case.name}/energies": energies, f"{case.name}/forces": forces}
            np.savez(arguments.export, **arrays)
            return 0
        if arguments.write:
            if arguments.data is None:
                parser.error("--write needs --data")
            write_golden(found, folder)
            return 0
        exchange = folder / "cgbench.npz"
        command = [arguments.cgbench_python, __file__, "--export", str(exchange)]
        command += ["--data", str(arguments.data)] if arguments.data else []
        subprocess.run(command, check=True)
        return 0 if compare(found, dict(np.load(exchange))) else 1


if __name__ == "__main__":
    sys.exit(main())
