"""Seconds for steps of TorchMD with a TorchMD-Net network; called by ``benchmarks/simulation.py``.

    PEER_PYTHON benchmarks/peers/simulation_torchmd.py CASE.npz --topology PSF --force-field YAML \\
        --threads 1

``CASE.npz`` holds the weights under TorchMD-Net's names, ``bead_types`` (n_beads,), ``positions``
(n_replicas, n_beads, 3) and ``settings``: time step in fs, friction in 1/ps, temperature in K. One
line with versions is printed when everything is warm; then each number of steps that is read from
the standard input is answered with a line of wall and processor seconds. So the two programs can
take turns, and the one that waits costs nothing.

The published settings do not run as they stand. What is done about it:

- ``Parameters`` of TorchMD 1.1.2 lacks the matrices that ``RepulsionCG`` reads;
- masses of zero in the psf go before those of the force field; they are set to 12 amu;
- the box is zero, which ``Forces`` takes as no box, but of which the network makes NaN;
- ``max_num_neighbors`` of 32 would cut pairs of larger proteins: it is the number of beads, no
  more, because pair arrays are allocated for it.
"""

import argparse
import importlib.metadata
import json
import sys
import time

import numpy as np
import torch
from graph_network_torchmdnet import SETTINGS
from moleculekit.molecule import Molecule
from torchmd.forcefields.forcefield import ForceField
from torchmd.forces import Forces
from torchmd.integrator import Integrator, maxwell_boltzmann
from torchmd.parameters import Parameters
from torchmd.systems import System
from torchmdnet.calculators import External
from torchmdnet.models.model import create_model

TERMS = ["bonds", "repulsioncg", "dihedrals"]
WARM_UP = 3


class Unboxed(External):
    """The network without the zero box that TorchMD hands on."""

    def calculate(self, pos: torch.Tensor, box: object = None) -> tuple[torch.Tensor, torch.Tensor]:
        return super().calculate(pos)


def network(case: dict[str, np.ndarray], n_replicas: int) -> External:
    n_beads = len(case["bead_types"])
    model = create_model({**SETTINGS, "precision": 32, "max_num_neighbors": n_beads}).eval()
    state = {
        name: torch.tensor(array, dtype=torch.float32)
        for name, array in case.items()
        if name.startswith(("representation_model.", "output_model."))
    }
    missing, unexpected = model.load_state_dict(state, strict=False)
    if unexpected or set(missing) != {"mean", "std", "representation_model.distance.box"}:
        raise SystemExit(f"weights do not fit: missing {missing}, unexpected {unexpected}")
    return Unboxed(model, torch.tensor(case["bead_types"]).repeat(n_replicas, 1), "cpu")


def integrator(case: dict[str, np.ndarray], topology: str, force_field: str) -> Integrator:
    molecule = Molecule(topology)
    molecule.masses = np.full(molecule.numAtoms, 12.0, dtype=np.float32)
    field = ForceField.create(molecule, force_field)
    parameters = Parameters(field, molecule, TERMS, precision=torch.float32, device="cpu")
    parameters.A, parameters.B = parameters.get_AB()
    positions = case["positions"]
    n_replicas, n_beads, _ = positions.shape
    system = System(n_beads, n_replicas, torch.float32, "cpu")
    system.set_positions(np.ascontiguousarray(positions.transpose(1, 2, 0)))
    system.set_box(np.zeros((3, n_replicas), dtype=np.float32))
    timestep, friction, temperature = map(float, case["settings"])
    system.set_velocities(maxwell_boltzmann(parameters.masses, temperature, n_replicas))
    forces = Forces(
        parameters, terms=TERMS, external=network(case, n_replicas), exclusions=("bonds",)
    )
    forces.compute(system.pos, system.box, system.forces)
    return Integrator(system, forces, timestep, "cpu", gamma=friction, T=temperature)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("case")
    parser.add_argument("--topology", required=True)
    parser.add_argument("--force-field", required=True)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    dynamics = integrator(dict(np.load(options.case)), options.topology, options.force_field)
    first = dynamics.systems.forces.clone()
    dynamics.step(WARM_UP)
    versions = {
        name: importlib.metadata.version(name) for name in ("torchmd", "torchmd-net", "torch")
    }
    np.save(f"{options.case}.forces.npy", first.numpy())
    print(json.dumps(versions), flush=True)
    for line in sys.stdin:
        wall, busy = time.perf_counter(), time.process_time()
        dynamics.step(int(line))
        wall, busy = time.perf_counter() - wall, time.process_time() - busy
        if not torch.isfinite(dynamics.systems.pos).all():
            raise SystemExit("positions are not finite")
        print(json.dumps([wall, busy]), flush=True)


if __name__ == "__main__":
    main()
