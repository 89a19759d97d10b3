"""Weights of TorchMD-Net's ``graph-network`` under the names that this package gives them."""

from collections.abc import Mapping

import torch
from torch import Tensor

from cgbench.errors import ValidationError
from cgbench.models.graph_network import GraphNetwork, GraphNetworkSettings

#: Parts of an interaction layer: their name, our name.
_LAYER_PARTS = {
    "mlp.0": "filter.hidden",
    "mlp.2": "filter.output",
    "conv.lin1": "send",
    "conv.lin2": "receive",
    "lin": "update",
}
#: Their ``conv.net`` is the same network as ``mlp``, stored twice.
_TWICE = "conv.net."


def from_torchmdnet(
    state: Mapping[str, Tensor], settings: GraphNetworkSettings | None = None
) -> GraphNetwork:
    """Return the network with the weights of a TorchMD-Net model.

    Args:
        state: The state dictionary of a ``TorchMD_Net`` with a ``graph-network`` and a ``Scalar``
            output, also with the prefix ``model.`` of its training checkpoints.
        settings: Shape of the network; cutoffs are not in the weights.

    Returns:
        The network in the precision of the weights. A standard deviation of the data (``std``)
        is multiplied into the last layer.

    Raises:
        ValidationError: Weights are missing, left over or of the wrong shape, or the model adds
            a constant energy or a neighbour embedding.
    """
    settings = settings or GraphNetworkSettings()
    left = {name.removeprefix("model."): tensor for name, tensor in state.items()}
    std, mean = left.pop("std", torch.ones(())), left.pop("mean", torch.zeros(()))
    if float(mean) != 0.0:
        raise ValidationError(
            "TorchMD-Net weights with a constant energy per system",
            expected="mean = 0",
            found=float(mean),
            fix="set mean to zero: a constant changes neither forces nor ensembles",
        )
    left.pop("representation_model.distance.box", None)
    ours: dict[str, Tensor] = {}
    for our_name, names in _names(settings).items():
        found = [name for name in names if name in left]
        if not found:
            raise ValidationError(f"TorchMD-Net weights lack {names[0]!r}")
        ours[our_name] = left[found[0]].detach().clone()
        for name in found:
            if not torch.equal(left.pop(name), ours[our_name]):
                raise ValidationError(f"TorchMD-Net weights disagree on {name!r}, stored twice")
    if left:
        raise ValidationError(
            "TorchMD-Net weights that this network does not have",
            found=", ".join(sorted(left)[:5]),
            fix="only graph-network models without neighbour embedding and prior can be read",
        )
    for part in ("weight", "bias"):
        ours[f"readout_energy.{part}"] *= std.to(ours[f"readout_energy.{part}"])
    network = GraphNetwork(settings).to(ours["embedding.weight"].dtype)
    for name, weight in network.state_dict().items():
        if weight.shape != ours[name].shape:
            raise ValidationError(
                f"TorchMD-Net weights for {name!r} have another shape than the settings",
                expected=tuple(weight.shape),
                found=tuple(ours[name].shape),
            )
    network.load_state_dict(ours)
    return network


def _names(settings: GraphNetworkSettings) -> dict[str, list[str]]:
    """Return for each of our names the names that TorchMD-Net may store the weight under."""
    theirs = "representation_model."
    names = {
        "embedding.weight": [f"{theirs}embedding.weight"],
    }
    radial = {"centres": "means", "widths": "betas"}
    if settings.rbf_type == "gauss":
        radial = {"centres": "offset", "exponent": "coeff"}
    for our_part, their_part in radial.items():
        names[f"radial.{our_part}"] = [f"{theirs}distance_expansion.{their_part}"]
    for layer in range(settings.num_layers):
        block = f"{theirs}interactions.{layer}."
        for their_part, our_part in _LAYER_PARTS.items():
            for kind in ("weight", "bias"):
                if (our_part, kind) == ("send", "bias"):
                    continue
                candidates = [f"{block}{their_part}.{kind}"]
                if their_part.startswith("mlp."):
                    twin = _TWICE + their_part.removeprefix("mlp.")
                    candidates.append(f"{block}{twin}.{kind}")
                names[f"layers.{layer}.{our_part}.{kind}"] = candidates
    for number, our_part in ((0, "readout_hidden"), (2, "readout_energy")):
        for kind in ("weight", "bias"):
            # Releases before 2.0 have no ``layers``.
            names[f"{our_part}.{kind}"] = [
                f"output_model.output_network.{middle}{number}.{kind}" for middle in ("layers.", "")
            ]
    return names
