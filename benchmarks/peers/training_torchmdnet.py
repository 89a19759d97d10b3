"""One force-matching step of TorchMD-Net's graph network, timed; started by benchmarks/training.py.

Runs in the environment of requirements.txt. The batch is read from a file, the reference
architecture takes its own initial weights, and the step is that of TorchMD-Net's own training
module: forces by a first backward pass that keeps its graph, the mean square error of the forces,
a second backward pass, AdamW. The neighbour cap exceeds the number of beads. Prints one line of
JSON. ::

    python benchmarks/peers/training_torchmdnet.py BATCH.npz --seconds 10
"""

import argparse
import importlib.metadata
import json
import resource
import time
from pathlib import Path

import numpy as np
import torch
from graph_network_torchmdnet import SETTINGS
from torchmdnet.models.model import create_model


def main() -> None:
    """Time steps until the time is up, and print the best and the median."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("batch", type=Path)
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    arrays = np.load(arguments.batch)
    n_frames, n_beads, _ = arrays["pos"].shape
    pos = torch.tensor(arrays["pos"].reshape(-1, 3))
    target = torch.tensor(arrays["forces"].reshape(-1, 3))
    types = torch.tensor(np.tile(arrays["bead_types"], n_frames))
    batch = torch.repeat_interleave(torch.arange(n_frames), n_beads)
    model = create_model({**SETTINGS, "precision": 32}).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-4)

    def step() -> None:
        optimiser.zero_grad()
        _, forces = model(types, pos, batch)
        torch.nn.functional.mse_loss(forces, target).backward()
        optimiser.step()

    started = time.perf_counter()
    step()
    first = time.perf_counter() - started
    times: list[float] = []
    while sum(times) < arguments.seconds or len(times) < 3:
        started = time.process_time()
        step()
        times.append(time.process_time() - started)
    names = ("torchmd-net", "torch", "numpy")
    result = {
        "best_seconds": min(times),
        "median_seconds": float(np.median(times)),
        "steps": len(times),
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "first_seconds": first,
        "versions": {name: importlib.metadata.version(name) for name in names},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
