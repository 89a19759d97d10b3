"""TorchMD with TorchMD-Net on a device, timed; started by ``benchmarks/simulation_gpu.py``.

    PEER_PYTHON benchmarks/peers/gpu_torchmd.py simulate CASE.npz --topology PSF --force-field YAML
    PEER_PYTHON benchmarks/peers/gpu_torchmd.py train BATCH.npz

Files and settings are those of ``simulation_torchmd.py`` and ``training_torchmdnet.py``, on
``--device``. Both of the network's ways to run are timed where there is a graphics processor: as it
is, and as the CUDA graph that its adapter offers; the faster one counts. One line of JSON is
printed at the end.
"""

import argparse
import importlib.metadata
import json
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from graph_network_torchmdnet import SETTINGS
from moleculekit.molecule import Molecule
from simulation_torchmd import TERMS, Unboxed
from torchmd.forcefields.forcefield import ForceField
from torchmd.forces import Forces
from torchmd.integrator import Integrator, maxwell_boltzmann
from torchmd.parameters import Parameters
from torchmd.systems import System
from torchmdnet.models.model import create_model

PREFIXES = ("representation_model.", "output_model.")


def timed(step: Callable[[], object], seconds: float, device: str) -> float:
    """Return steps a second over so many seconds."""

    def wait() -> float:
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter()

    for _ in range(3):
        step()
    began, done = wait(), 0
    while (now := wait()) - began < seconds or done < 3:
        for _ in range(3):
            step()
        done += 3
    return done / (now - began)


def integrator(case: dict[str, np.ndarray], options: argparse.Namespace, graph: bool) -> Integrator:
    """Return the dynamics of a case; what is set right is said in ``simulation_torchmd.py``."""
    device = options.device
    positions = case["positions"]
    n_replicas, n_beads, _ = positions.shape
    model = create_model(
        {**SETTINGS, "precision": 32, "max_num_neighbors": n_beads, "static_shapes": graph}
    ).eval()
    weights = {n: torch.tensor(a).float() for n, a in case.items() if n.startswith(PREFIXES)}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    if unexpected or set(missing) != {"mean", "std", "representation_model.distance.box"}:
        raise SystemExit(f"weights do not fit: missing {missing}, unexpected {unexpected}")
    types = torch.tensor(case["bead_types"]).repeat(n_replicas, 1)
    network = Unboxed(model.to(device), types, device, use_cuda_graph=graph)
    molecule = Molecule(options.topology)
    molecule.masses = np.full(molecule.numAtoms, 12.0, dtype=np.float32)
    field = ForceField.create(molecule, options.force_field)
    parameters = Parameters(field, molecule, TERMS, precision=torch.float32, device=device)
    parameters.A, parameters.B = (matrix.to(device) for matrix in parameters.get_AB())
    system = System(n_beads, n_replicas, torch.float32, device)
    system.set_positions(np.ascontiguousarray(positions.transpose(1, 2, 0)))
    system.set_box(np.zeros((3, n_replicas), dtype=np.float32))
    timestep, friction, temperature = map(float, case["settings"])
    speeds = maxwell_boltzmann(parameters.masses.cpu(), temperature, n_replicas)
    system.set_velocities(speeds.to(device))
    forces = Forces(parameters, terms=TERMS, external=network, exclusions=("bonds",))
    forces.compute(system.pos, system.box, system.forces)
    return Integrator(system, forces, timestep, device, gamma=friction, T=temperature)


def simulate(options: argparse.Namespace) -> dict[str, object]:
    """Time the dynamics both ways; a way that fails is said to."""
    case = dict(np.load(options.file))
    rates: dict[str, float] = {}
    failed: dict[str, str] = {}
    for name, graph in (("eager", False), ("cuda graph", True)):
        if graph and not options.device.startswith("cuda"):
            continue
        try:
            dynamics = integrator(case, options, graph)
            if not graph:
                forces = dynamics.systems.forces.cpu().numpy()
                np.save(f"{options.file}.forces.npy", forces)
            rates[name] = timed(partial(dynamics.step, 1), options.seconds, options.device)
            if not torch.isfinite(dynamics.systems.pos).all():
                raise SystemExit("positions are not finite")
        except RuntimeError as error:
            failed[name] = str(error).splitlines()[0]
    return {"rates": rates, "failed": failed}


def train(options: argparse.Namespace) -> dict[str, object]:
    """Time steps of force matching as TorchMD-Net's own training module does them."""
    arrays = np.load(options.file)
    device = options.device
    n_frames, n_beads, _ = arrays["pos"].shape
    pos = torch.tensor(arrays["pos"].reshape(-1, 3), device=device)
    target = torch.tensor(arrays["forces"].reshape(-1, 3), device=device)
    types = torch.tensor(np.tile(arrays["bead_types"], n_frames), device=device)
    batch = torch.repeat_interleave(torch.arange(n_frames, device=device), n_beads)
    model = create_model({**SETTINGS, "precision": 32}).to(device).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-4)

    def step() -> None:
        optimiser.zero_grad()
        _, forces = model(types, pos, batch)
        torch.nn.functional.mse_loss(forces, target).backward()
        optimiser.step()

    return {"rates": {"eager": timed(step, options.seconds, device)}, "failed": {}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=("simulate", "train"))
    parser.add_argument("file")
    parser.add_argument("--topology")
    parser.add_argument("--force-field")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    torch.manual_seed(1)
    found = {"simulate": simulate, "train": train}[options.what](options)
    names = ("torchmd", "torchmd-net", "torch")
    versions = {name: importlib.metadata.version(name) for name in names}
    print(json.dumps({**found, "versions": versions}))


if __name__ == "__main__":
    main()
