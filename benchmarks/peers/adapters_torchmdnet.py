"""Makes training checkpoints with TorchMD-Net, and says what it computes with them.

Runs in the environment of requirements.txt. A small model of each architecture is trained for one
step on made-up chains by TorchMD-Net's own Lightning module, so that the checkpoints hold all that
real ones hold (callbacks, optimiser, schedulers), and then evaluated on other made-up chains. ::

    python benchmarks/peers/adapters_torchmdnet.py --make DIR
    python benchmarks/peers/adapters_torchmdnet.py --write

The first writes ``<case>.ckpt`` and ``results.npz`` to DIR; the slow test of the adapters does that
and compares what ``--adapter torchmdnet`` makes of each. The second writes the checkpoints of
``GOLDEN_CASES`` and their results to tests/golden/, where the other tests read them.
"""

import argparse
import importlib.metadata
import sys
import tempfile
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden"
SEED = 5739
SIZES = (10, 25, 6)
COMMON = [
    *("--embedding-dimension", "16", "--num-layers", "2", "--num-rbf", "8"),
    *("--cutoff-lower", "3", "--cutoff-upper", "12", "--max-z", "23", "--derivative", "True"),
    *("--trainable-rbf", "True", "--activation", "tanh", "--max-num-neighbors", "32"),
    *("--lr-metric", "val", "--num-workers", "0", "--save-interval", "1"),
]
CASES = {
    "graph-network": ["--model", "graph-network"],
    "graph-network-double": ["--model", "graph-network", "--precision", "64"],
    "graph-network-silu": ["--model", "graph-network", "--activation", "silu"],
    "graph-network-gauss": ["--model", "graph-network", "--rbf-type", "gauss"],
    "graph-network-embedded": ["--model", "graph-network", "--neighbor-embedding", "True"],
    "transformer": ["--model", "transformer", "--num-heads", "4"],
    "equivariant-transformer": [
        *("--model", "equivariant-transformer", "--num-heads", "4", "--vector-cutoff", "True"),
    ],
    "tensornet": ["--model", "tensornet", "--cutoff-lower", "0"],
}
GOLDEN_CASES = ("graph-network", "equivariant-transformer")


def chains(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bead types (n,), positions (n, 3) float32 in Å and systems (n,) of made-up chains."""
    generator = np.random.default_rng(seed)
    positions = []
    for size in SIZES:
        steps = generator.random((size, 3)) - 0.5
        steps *= 3.8 / np.linalg.norm(steps, axis=1, keepdims=True)
        positions.append(np.cumsum(steps, axis=0))
    types = generator.integers(1, 23, sum(SIZES))
    return types, np.concatenate(positions).astype(np.float32), np.repeat(range(len(SIZES)), SIZES)


def train(case: str, path: Path) -> None:
    """Write a checkpoint as TorchMD-Net's training does."""
    import lightning
    import torch
    from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
    from torch_geometric.data import Data
    from torch_geometric.loader import DataLoader
    from torchmdnet.module import LNNP
    from torchmdnet.scripts.train import get_argparse

    lightning.seed_everything(SEED)
    arguments = get_argparse().parse_args(COMMON + CASES[case])
    module = LNNP(arguments, prior_model=None, mean=None, std=None)
    types, positions, systems = (torch.tensor(array) for array in chains(SEED))
    data = [
        Data(
            z=types[systems == index],
            pos=positions[systems == index],
            neg_dy=torch.randn(int((systems == index).sum()), 3),
        )
        for index in range(len(SIZES))
    ]
    loader = DataLoader(data, batch_size=len(data))
    with tempfile.TemporaryDirectory() as folder:
        trainer = lightning.Trainer(
            max_epochs=1,
            accelerator="cpu",
            logger=False,
            default_root_dir=folder,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[
                ModelCheckpoint(dirpath=folder),
                EarlyStopping("val_total_mse_loss"),
            ],
        )
        trainer.fit(module, loader, loader)
        # After one step many weights are still what they were set to: biases zero, for one.
        generator = torch.Generator().manual_seed(SEED)
        with torch.no_grad():
            for weight in module.model.parameters():
                scale = 0.3 / max(1, weight.shape[-1] if weight.ndim else 1) ** 0.5
                weight += scale * torch.randn(weight.shape, generator=generator).to(weight)
        trainer.save_checkpoint(path)


def evaluate(path: Path, precision: str) -> tuple[np.ndarray, np.ndarray]:
    """Energies (n_systems,) and forces (n_beads, 3) by TorchMD-Net's own loader."""
    import torch
    from torchmdnet.models.model import load_model

    dtype = getattr(torch, precision)
    model = load_model(str(path), derivative=True, max_num_neighbors=128).to(dtype).eval()
    types, positions, systems = (torch.tensor(array) for array in chains(SEED + 1))
    energy, forces = model(types, positions.to(dtype), systems)
    return energy.detach().numpy()[:, 0], forces.detach().numpy()


def make(cases: list[str], folder: Path) -> dict[str, np.ndarray]:
    """Write the checkpoints of cases, and return what TorchMD-Net computes with them."""
    arrays = {}
    for case in cases:
        path = folder / f"{case}.ckpt"
        train(case, path)
        for precision in ("float32", "float64"):
            energies, forces = evaluate(path, precision)
            arrays[f"{case}/{precision}/energies"] = energies
            arrays[f"{case}/{precision}/forces"] = forces
    return arrays


def main() -> int:
    """Run one of the two modes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--make", type=Path, help="write checkpoints and results there")
    parser.add_argument("--write", action="store_true", help="write the golden files")
    parser.add_argument("--case", action="append", choices=sorted(CASES), help="only these")
    arguments = parser.parse_args()
    if arguments.make:
        arguments.make.mkdir(parents=True, exist_ok=True)
        np.savez(arguments.make / "results.npz", **make(arguments.case or [*CASES], arguments.make))
    elif arguments.write:
        folder = GOLDEN / "torchmdnet_checkpoints"
        folder.mkdir(exist_ok=True)
        arrays = make([*GOLDEN_CASES], folder)
        names = ("torchmd-net", "torch", "lightning", "numpy")
        versions = [f"{name} {importlib.metadata.version(name)}" for name in names]
        np.savez_compressed(folder / "results.npz", versions=np.array(versions), **arrays)
        print(", ".join(versions))
    else:
        parser.error("give --make or --write")
    return 0


if __name__ == "__main__":
    sys.exit(main())
