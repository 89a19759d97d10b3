"""Compares graph-network energies and forces with TorchMD-Net's, given the same weights.

Runs in the environment of requirements.txt. Weights of the reference network are drawn from a
seeded numpy generator, the same on both sides. Structures are a batch of made-up chains of several
sizes and, with ``--data``, published starting frames. ::

    python benchmarks/peers/graph_network_torchmdnet.py --data DIR --cgbench-python PYTHON
    python benchmarks/peers/graph_network_torchmdnet.py --data DIR --write

The first evaluates both programs now and prints the largest differences. The second writes
TorchMD-Net's numbers to tests/golden/, where the tests of cgbench read them. The published settings
leave ``max_num_neighbors`` at 32, which cuts pairs of the larger proteins; here it exceeds the
number of beads.
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

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden" / "graph_network_torchmdnet.npz"
SEED = 5739
BOUNDS = {"float32": 1e-5, "float64": 1e-10}
FRAMES = {"cln": 8, "proteing": 3, "lambda": 2}
# The numbering of the published embedding arrays.
_NAMES = (
    *("ALA", "GLY", "PHE", "TYR", "ASP", "GLU", "TRP", "PRO", "ASN", "GLN", "HIS"),
    *("SER", "THR", "VAL", "MET", "CYS", "NLE", "", "ARG", "LYS", "LEU", "ILE"),
)
BEAD_TYPES = {name: number for number, name in enumerate(_NAMES, start=1) if name}
SETTINGS = {
    "model": "graph-network",
    "embedding_dimension": 128,
    "num_layers": 4,
    "num_rbf": 18,
    "rbf_type": "expnorm",
    "trainable_rbf": True,
    "activation": "tanh",
    "neighbor_embedding": False,
    "cutoff_lower": 3.0,
    "cutoff_upper": 12.0,
    "max_z": 100,
    "max_num_neighbors": 128,
    "aggr": "add",
    "derivative": True,
    "atom_filter": -1,
    "prior_model": None,
    "output_model": "Scalar",
    "reduce_op": "add",
}


@dataclass
class Case:
    """A flat batch of structures."""

    name: str
    bead_types: np.ndarray  # (n_beads,) int64
    positions: np.ndarray  # (n_beads, 3) float32, Å
    batch: np.ndarray  # (n_beads,) int64


def draw_weights() -> dict[str, np.ndarray]:
    """Weights of the reference network under TorchMD-Net's names, float64."""
    generator = np.random.default_rng(SEED)
    width, functions = SETTINGS["embedding_dimension"], SETTINGS["num_rbf"]

    def draw(*shape: int) -> np.ndarray:
        return np.sqrt(12.0 / shape[-1]) * (generator.random(shape) - 0.5)

    weights = {
        "representation_model.embedding.weight": 3.0 * generator.random((100, width)) - 1.5,
        "representation_model.distance_expansion.means": np.sort(generator.random(functions)),
        "representation_model.distance_expansion.betas": 40.0 + 80.0 * generator.random(functions),
    }
    for layer in range(SETTINGS["num_layers"]):
        block = f"representation_model.interactions.{layer}."
        for number, columns in ((0, functions), (2, width)):
            weight, bias = draw(width, columns), draw(width) * 3.0
            for part in ("mlp", "conv.net"):
                weights[f"{block}{part}.{number}.weight"] = weight
                weights[f"{block}{part}.{number}.bias"] = bias
        weights[f"{block}conv.lin1.weight"] = draw(width, width)
        weights[f"{block}conv.lin2.weight"] = draw(width, width)
        weights[f"{block}conv.lin2.bias"] = draw(width) * 3.0
        weights[f"{block}lin.weight"] = draw(width, width)
        weights[f"{block}lin.bias"] = draw(width) * 3.0
    for number, rows, columns in ((0, width // 2, width), (2, 1, width // 2)):
        output = f"output_model.output_network.layers.{number}."
        weights[f"{output}weight"] = draw(rows, columns)
        weights[f"{output}bias"] = draw(rows)
    return weights


def made_up_case() -> Case:
    """Chains of 2 to 60 beads as random walks, tight enough for distances below 3 Å."""
    generator = np.random.default_rng(SEED + 1)
    sizes = (10, 60, 2, 33, 17)
    positions = []
    for size in sizes:
        steps = generator.random((size, 3)) - 0.5
        steps *= 3.8 / np.linalg.norm(steps, axis=1, keepdims=True)
        positions.append(0.75 * np.cumsum(steps, axis=0))
    return Case(
        "made-up",
        generator.integers(1, 23, sum(sizes)),
        np.concatenate(positions).astype(np.float32),
        np.repeat(np.arange(len(sizes)), sizes),
    )


def published_case(data: Path, key: str) -> Case:
    """The first starting frames of a protein."""
    import mdtraj

    native = next((data / "native").glob(f"{key}_*_ca.pdb"))
    frames = data / "starting_frames" / f"{key}_kcenters_32clusters_coords.xtc"
    trajectory = mdtraj.load(str(frames), top=str(native))
    positions = (trajectory.xyz[: FRAMES[key]] * 10.0).astype(np.float32)
    names = [line[17:20] for line in native.read_text().splitlines() if line.startswith("ATOM")]
    types = np.array([BEAD_TYPES[name] for name in names], dtype=np.int64)
    n_frames, n_beads, _ = positions.shape
    return Case(
        key,
        np.tile(types, n_frames),
        positions.reshape(-1, 3),
        np.repeat(np.arange(n_frames), n_beads),
    )


def cases(data: Path | None) -> list[Case]:
    """All structures to compare on."""
    published = [published_case(data, key) for key in FRAMES] if data else []
    return [made_up_case(), *published]


def evaluate_torchmdnet(case: Case, precision: str) -> tuple[np.ndarray, np.ndarray]:
    """Energies (n_systems,) and forces (n_beads, 3) by TorchMD-Net."""
    import torch
    from torchmdnet.models.model import create_model

    dtype = getattr(torch, precision)
    model = create_model({**SETTINGS, "precision": int(precision.removeprefix("float"))}).eval()
    state = {name: torch.tensor(array, dtype=dtype) for name, array in draw_weights().items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    expected = {"mean", "std", "representation_model.distance.box"}
    if unexpected or set(missing) != expected:
        raise SystemExit(f"weights do not fit: missing {missing}, unexpected {unexpected}")
    energy, forces = model(
        torch.tensor(case.bead_types),
        torch.tensor(case.positions, dtype=dtype),
        torch.tensor(case.batch),
    )
    return energy.detach().numpy()[:, 0], forces.detach().numpy()


def evaluate_cgbench(case: Case, precision: str) -> tuple[np.ndarray, np.ndarray]:
    """Energies (n_systems,) and forces (n_beads, 3) by this package."""
    import torch

    from cgbench.models.torchmdnet_weights import from_torchmdnet

    dtype = getattr(torch, precision)
    network = from_torchmdnet(
        {name: torch.tensor(array, dtype=dtype) for name, array in draw_weights().items()}
    )
    with torch.no_grad():
        energy, forces = network.energy_forces(
            torch.tensor(case.bead_types),
            torch.tensor(case.positions, dtype=dtype),
            torch.tensor(case.batch),
            int(case.batch.max()) + 1,
        )
    return energy.numpy(), forces.numpy()


def evaluate(found: list[Case], evaluator) -> dict[str, np.ndarray]:
    """Energies and forces of all cases in both precisions, by name."""
    arrays = {}
    for case in found:
        for precision in BOUNDS:
            energies, forces = evaluator(case, precision)
            arrays[f"{case.name}/{precision}/energies"] = energies
            arrays[f"{case.name}/{precision}/forces"] = forces
    return arrays


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest difference in units of the root mean square, or in absolute ones if that is less."""
    scale = max(1.0, float(np.sqrt(np.mean(np.square(theirs)))))
    return float(np.abs(ours - theirs).max()) / scale


def compare(found: list[Case], ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> bool:
    """Print the largest differences of energies and forces; say whether all are small."""
    print(f"{'system':<12}{'precision':<11}{'energy':>10}{'force':>10}   (largest difference)")
    agreed = True
    for case in found:
        for precision, bound in BOUNDS.items():
            name = f"{case.name}/{precision}/"
            names = (f"{name}energies", f"{name}forces")
            both = [difference(ours[item], theirs[item]) for item in names]
            agreed &= max(both) <= bound
            print(f"{case.name:<12}{precision:<11}{both[0]:>10.1e}{both[1]:>10.1e}")
    print("agree" if agreed else f"DISAGREE: bounds {BOUNDS}")
    return agreed


def main() -> int:
    """Run one of the three modes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the published files")
    parser.add_argument("--write", action="store_true", help="write the golden file")
    parser.add_argument("--cgbench-python", default=sys.executable, help="python with cgbench")
    parser.add_argument("--export", type=Path, help="write cgbench's numbers there and stop")
    arguments = parser.parse_args()
    found = cases(arguments.data)
    if arguments.export:
        np.savez(arguments.export, **evaluate(found, evaluate_cgbench))
        return 0
    theirs = evaluate(found, evaluate_torchmdnet)
    if arguments.write:
        if arguments.data is None:
            parser.error("--write needs --data")
        programs = ("torchmd-net", "torch", "numpy")
        versions = [f"{name} {importlib.metadata.version(name)}" for name in programs]
        versions.append(f"python {platform.python_version()}")
        np.savez_compressed(GOLDEN, versions=np.array(versions), **theirs)
        print(f"{GOLDEN}: {GOLDEN.stat().st_size / 1024:.0f} KiB, {', '.join(versions)}")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        exchange = Path(folder) / "cgbench.npz"
        command = [arguments.cgbench_python, __file__, "--export", str(exchange)]
        command += ["--data", str(arguments.data)] if arguments.data else []
        subprocess.run(command, check=True)
        return 0 if compare(found, dict(np.load(exchange)), theirs) else 1


if __name__ == "__main__":
    sys.exit(main())
