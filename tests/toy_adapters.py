"""Checkpoints as TorchMD-Net writes them, good and bad, and stand-ins for other programs."""

import io
import pickle
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from toy_networks import SMALL, TYPES, small_network

from cgbench.models import GraphNetwork

GOLDEN = Path(__file__).parent / "golden" / "torchmdnet_checkpoints"

#: Hyper-parameters of the small network, as TorchMD-Net names them.
SETTINGS: dict[str, Any] = {
    "model": "graph-network",
    "embedding_dimension": SMALL.embedding_dimension,
    "num_layers": SMALL.num_layers,
    "num_rbf": SMALL.num_rbf,
    "rbf_type": "expnorm",
    "trainable_rbf": True,
    "activation": "tanh",
    "neighbor_embedding": False,
    "cutoff_lower": SMALL.cutoff_lower,
    "cutoff_upper": SMALL.cutoff_upper,
    "max_z": SMALL.max_bead_type,
    "max_num_neighbors": 32,
    "aggr": "add",
    "derivative": True,
    "output_model": "Scalar",
    "reduce_op": "add",
    "prior_model": None,
    "precision": 32,
    "lr": 5e-4,
}
_THEIRS = {
    "filter.hidden": "mlp.0",
    "filter.output": "mlp.2",
    "send": "conv.lin1",
    "receive": "conv.lin2",
    "update": "lin",
}
BEADS = torch.tensor(TYPES)


def their_weights(network: GraphNetwork | None = None) -> dict[str, Tensor]:
    """The weights of one of our networks under TorchMD-Net's names."""
    state = (network or small_network().float()).state_dict()
    head = "model.representation_model."
    weights = {
        f"{head}embedding.weight": state["embedding.weight"],
        f"{head}distance.box": torch.zeros(3, 3),
        "model.mean": torch.tensor(0.0),
        "model.std": torch.tensor(1.0),
    }
    radial = {"centres": "means", "widths": "betas"}
    if "radial.exponent" in state:
        radial = {"centres": "offset", "exponent": "coeff"}
    for ours, theirs in radial.items():
        weights[f"{head}distance_expansion.{theirs}"] = state[f"radial.{ours}"]
    for name, tensor in state.items():
        for ours, theirs in _THEIRS.items():
            if name.startswith("layers.") and f".{ours}." in name:
                layer, kind = name.split(".")[1], name.rpartition(".")[2]
                weights[f"{head}interactions.{layer}.{theirs}.{kind}"] = tensor
                if theirs.startswith("mlp"):
                    twin = theirs.replace("mlp", "conv.net")
                    weights[f"{head}interactions.{layer}.{twin}.{kind}"] = tensor
    for number, part in ((0, "readout_hidden"), (2, "readout_energy")):
        for kind in ("weight", "bias"):
            weights[f"model.output_model.output_network.layers.{number}.{kind}"] = state[
                f"{part}.{kind}"
            ]
    return weights


def save_checkpoint(
    path: Path,
    settings: Mapping[str, Any] | None = None,
    weights: Mapping[str, Any] | None = None,
    **more: Any,
) -> Path:
    """Write a checkpoint; ``settings`` replace some of the usual ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "pytorch-lightning_version": "1.3.8",
        "hyper_parameters": SETTINGS | dict(settings or {}),
        "state_dict": dict(their_weights() if weights is None else weights),
    }
    torch.save(content | more, path)
    return path


class Runs:
    """Pickled, it is a call of a function with arguments."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def call_of(module: str, name: str, *arguments: Any) -> bytes:
    """A pickle that calls a function by its name, which need not exist here."""
    stream = io.BytesIO()
    stream.write(b"\x80\x02" + f"c{module}\n{name}\n".encode())
    stream.write(pickle.dumps(arguments, protocol=2)[2:-1] + b"R.")
    return stream.getvalue()


def replace_pickle(path: Path, content: bytes) -> Path:
    """Replace what is pickled in an archive of torch."""
    with zipfile.ZipFile(path) as archive:
        parts = {item.filename: archive.read(item) for item in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, content if name.endswith("/data.pkl") else data)
    return path


SPRINGS = '''
"""A made-up module of another package."""
import torch
from cgbench.models import PotentialSpec

print("output of foreign code")


class Springs:
    def __init__(self, stiffness=10.0):
        self.stiffness = stiffness

    def __call__(self, bead_types, pos, batch):
        bond = pos[1:] - pos[:-1]
        length = bond.norm(dim=1)
        same = (batch[1:] == batch[:-1]).to(pos.dtype)
        stretch = (length - 3.8) * same
        energy = torch.zeros(int(batch.max()) + 1, dtype=pos.dtype)
        energy = energy.index_add(0, batch[1:], self.stiffness * stretch**2)
        pull = (2 * self.stiffness * stretch / length)[:, None] * bond
        forces = torch.zeros_like(pos)
        forces[:-1] += pull
        forces[1:] -= pull
        return energy, forces


class Named(Springs):
    spec = PotentialSpec(name="named", licence="MIT")
    cutoffs = (5.0,)


def make(path, stiffness="10"):
    return Springs(float(stiffness))


def named(path):
    return Named()


def of_double(path):
    class Double(Springs):
        def __call__(self, bead_types, pos, batch):
            return super().__call__(bead_types, pos.double(), batch)
    return Double()


def of_one_bead(path):
    return lambda bead_types, pos, batch: (pos.new_zeros(1), pos[:1])


def of_energy(path):
    return lambda bead_types, pos, batch: pos.new_zeros(1)


def nothing(path):
    return None


def fails(path):
    raise RuntimeError("no such weights")


def failing(path):
    def call(bead_types, pos, batch):
        raise IndexError("index 5 is out of range")
    return call


NUMBER = 5
'''


def write_module(folder: Path, name: str = "foreign_springs", text: str = SPRINGS) -> Path:
    """Write a module of its own, and forget what was imported under its name."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text(text, encoding="utf-8")
    sys.modules.pop(name, None)
    return folder
