"""Hyper-parameters of TorchMD-Net models, and whether our graph network is the same."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pydantic
from torch import Tensor

from cgbench import config
from cgbench.adapters.checkpoint import Checkpoint, Unopened, plain
from cgbench.errors import ValidationError
from cgbench.models import GraphNetworkSettings

#: Names of weights that only one architecture has, tried in this order.
_MARKS: Final = (
    ("tensornet", re.compile(r"representation_model\.tensor_embedding\.")),
    ("equivariant-transformer", re.compile(r"representation_model\.attention_layers\.0\.vec_proj")),
    ("transformer", re.compile(r"representation_model\.attention_layers\.0\.")),
    ("graph-network", re.compile(r"representation_model\.interactions\.0\.conv\.")),
)


class TorchMDNetSettings(pydantic.BaseModel):
    """The hyper-parameters that decide what a model computes; others are the trainer's.

    Names, meanings and defaults are those of TorchMD-Net's command line.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    model: str
    embedding_dimension: int
    num_layers: int
    num_rbf: int
    rbf_type: str = "expnorm"
    trainable_rbf: bool = False
    activation: str = "silu"
    neighbor_embedding: bool = True
    cutoff_lower: float = 0.0
    cutoff_upper: float = 5.0
    max_z: int = 100
    max_num_neighbors: int = 32
    aggr: str = "add"
    output_model: str = "Scalar"
    reduce_op: str = "add"
    prior_model: Any = None
    atom_filter: int = -1
    box_vecs: Any = None
    charge: bool = False
    spin: bool = False

    def obstacles(self) -> tuple[str, ...]:
        """Return what this has that our graph network has not; empty if it is the same."""
        ours = {
            "model": (self.model, ("graph-network",)),
            "neighbor_embedding": (self.neighbor_embedding, (False,)),
            "aggr": (self.aggr, ("add",)),
            "output_model": (self.output_model, ("Scalar",)),
            "reduce_op": (self.reduce_op, ("add", "sum")),
            "atom_filter": (self.atom_filter, (-1,)),
        }
        found = [f"{name} {value}" for name, (value, known) in ours.items() if value not in known]
        if self.prior_model:
            found.append("a prior model of its own")
        # Our network says itself which functions it has.
        for name in ("rbf_type", "activation"):
            value = getattr(self, name)
            try:
                GraphNetworkSettings.model_validate({name: value})
            except pydantic.ValidationError:
                found.append(f"{name} {value}")
        return tuple(found)

    def native(self, state: Mapping[str, Tensor]) -> GraphNetworkSettings:
        """Return the shape of our network.

        Raises:
            ValidationError: Ours has no such parts.
        """
        widths = [w for name, w in state.items() if name.endswith("interactions.0.mlp.0.weight")]
        return config.validate(
            GraphNetworkSettings,
            {
                "embedding_dimension": self.embedding_dimension,
                "num_layers": self.num_layers,
                "num_filters": len(widths[0]) if widths else self.embedding_dimension,
                "num_rbf": self.num_rbf,
                "rbf_type": self.rbf_type,
                "trainable_rbf": self.trainable_rbf,
                "activation": self.activation,
                "cutoff_lower": self.cutoff_lower,
                "cutoff_upper": self.cutoff_upper,
                "max_bead_type": self.max_z,
            },
            "hyper-parameters",
        )


def read_settings(
    checkpoint: Checkpoint, file: str | None
) -> tuple[TorchMDNetSettings, dict[str, Any]]:
    """Return the hyper-parameters that matter, and all of them; a file may add what is missing.

    Raises:
        UsageError: There is no such file.
        IntegrityError: The file cannot be parsed.
        ValidationError: A hyper-parameter is missing, not plain data, or another one than the
            file's; or the weights are those of another architecture, or need more than positions.
    """
    path, given = checkpoint.path, dict(checkpoint.hyper_parameters)
    if file is not None:
        extra = config.read_data(Path(file))
        if not isinstance(extra, dict):
            raise ValidationError(
                f"{file}: no hyper-parameters", expected="lines like 'num_rbf: 18'"
            )
        for name in sorted(set(extra) & set(given) & set(TorchMDNetSettings.model_fields)):
            if extra[name] != given[name]:
                raise ValidationError(
                    f"{file}: another {name} than the checkpoint was trained with",
                    expected=given[name],
                    found=extra[name],
                )
        given = {**plain(extra), **given}
    closed = [
        name for name in TorchMDNetSettings.model_fields if isinstance(given.get(name), Unopened)
    ]
    if closed:
        raise ValidationError(
            f"{path}: hyper-parameter {closed[0]} is no plain value",
            expected="a number, a name or true and false",
            found=given[closed[0]],
            fix="objects are never unpickled: save the checkpoint again with plain values",
        )
    if not given:
        raise ValidationError(
            f"{path}: a checkpoint without hyper-parameters",
            expected="hyper_parameters, as TorchMD-Net saves them",
            fix="give the training's YAML file with --adapter-option settings=FILE",
        )
    settings = config.validate(TorchMDNetSettings, given, f"{path}: hyper-parameters")
    architecture = _architecture(checkpoint.state)
    if architecture is not None and not settings.model.startswith(architecture):
        raise ValidationError(
            f"{path}: weights of another architecture than its hyper-parameters say",
            expected=settings.model,
            found=architecture,
        )
    wanted = {"box_vecs": settings.box_vecs, "charge": settings.charge, "spin": settings.spin}
    if needed := [name for name, value in wanted.items() if value]:
        raise ValidationError(
            f"{path}: a model that needs more than bead types and positions",
            expected="neither charges, spins nor a periodic box",
            found=", ".join(needed),
        )
    return settings, given


def _architecture(state: Mapping[str, Tensor]) -> str | None:
    """Tell the architecture by its weights; None where they are like none that is known."""
    for architecture, mark in _MARKS:
        if any(mark.search(name) for name in state):
            return architecture
    return None
