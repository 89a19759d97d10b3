"""The ``model.pt`` format: plain tensors and JSON, never code.

Version 1 is a ``torch.save`` archive of one dictionary: ``format`` ("cgbench-model"), ``version``
(1), ``spec`` (JSON of PotentialSpec), ``network`` (``settings`` as JSON and ``state`` as named
tensors, or None) and ``prior`` (JSON of PriorParameters, or None). Its network is a graph network.

Version 2 differs in one thing: ``network`` has a ``kind``, one of those in ``KINDS``. Graph
networks are still written in version 1, so that every version of the package reads them.
"""

from pathlib import Path
from typing import Any, TypeVar

import torch

from cgbench.config import Frozen, canonical_json, file_sha256, validate
from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.models.archive import (
    check_finite,
    check_shapes,
    check_tensors,
    content_hash,
    holds_program,
    load_plain,
    parse_json,
    plain_state,
    read_members,
    write_archive,
)
from cgbench.models.chain_model import ChainModel
from cgbench.models.go_model import GoModel, GoModelSettings
from cgbench.models.graph_network import GraphNetwork, GraphNetworkSettings
from cgbench.models.pair_spline import PairSpline, PairSplineSettings
from cgbench.models.potential import NetworkPotential, PotentialSpec
from cgbench.priors import PriorParameters

Part = TypeVar("Part", bound=Frozen)

FORMAT = "cgbench-model"
VERSION = 2
GRAPH_NETWORK = "graph-network"
#: What a network may be.
KINDS = (GRAPH_NETWORK, PairSpline.kind, GoModel.kind)
_SAVE_HINT = "make the file with cgbench.models.save_model"


def save_model(path: Path, potential: NetworkPotential) -> None:
    """Write a potential, atomically; the same potential always gives the same bytes.

    Weights are stored in single precision, whatever precision the network is in.

    Raises:
        ValidationError: A weight is not finite.
    """
    network: dict[str, Any] | None = None
    version = 1
    if potential.network is not None:
        state = plain_state(potential.network)
        check_finite(path, state)
        network = {"settings": canonical_json(potential.network.settings), "state": state}
        if isinstance(potential.network, ChainModel):
            version, network["kind"] = 2, potential.network.kind
    content = {
        "format": FORMAT,
        "version": version,
        "spec": canonical_json(potential.spec),
        "network": network,
        "prior": None if potential.prior is None else canonical_json(potential.prior),
    }
    write_archive(path, content)


def load_model(
    path: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> NetworkPotential:
    """Read a potential. No code in the file is ever executed.

    Args:
        path: A ``model.pt``.
        device: Where the weights go.
        dtype: Precision of the computation; stored weights are single precision.

    Raises:
        UsageError: No such file, or a program (TorchScript, torch.export) rather than data.
        IntegrityError: Damaged, oversized, holding code, of another format or a newer version.
        ValidationError: Weights, settings, spec or prior do not fit together or are not finite.
    """
    content = _read(path)
    spec = _json(PotentialSpec, content["spec"], f"{path}: spec")
    prior = None
    if content["prior"] is not None:
        prior = _json(PriorParameters, content["prior"], f"{path}: prior")
    network = _network(path, content["network"])
    if network is None and prior is None:
        raise ValidationError(f"{path}: holds neither a network nor a prior", fix=_SAVE_HINT)
    if network is not None:
        network = network.to(device=device, dtype=dtype)
    return NetworkPotential(network, prior, spec).eval()


def model_hash(path: Path) -> str:
    """Return ``sha256:`` and 64 hexadecimal digits that name a model.

    For our own format the hash covers content: format, version, JSON parts in canonical form, and
    name, shape and little-endian bytes of every tensor in order of names. So it does not depend on
    how the archive was packed. Programs (TorchScript, torch.export) are hashed as files.

    Raises:
        UsageError: No such file.
        IntegrityError: Damaged, oversized, holding code, or of an unknown format.
    """
    if is_program(path):
        return "sha256:" + file_sha256(path)
    content = _read(path)
    network = content["network"]
    prior = content["prior"]
    settings = None if network is None else network["settings"]
    header = {
        "format": content["format"],
        "version": content["version"],
        "spec": parse_json(content["spec"], f"{path}: spec"),
        "prior": None if prior is None else parse_json(prior, f"{path}: prior"),
        "network": None if settings is None else parse_json(settings, f"{path}: settings"),
    }
    if content["version"] > 1 and network is not None:
        header["kind"] = network["kind"]
    return content_hash(header, {} if network is None else network["state"])


def is_program(path: Path) -> bool:
    """Tell whether a file is a program, TorchScript or torch.export; nothing of it is run.

    Raises:
        UsageError: No such file.
        IntegrityError: Damaged, oversized, or no archive.
    """
    return holds_program(_members(path))


def _read(path: Path) -> dict[str, Any]:
    """Read the dictionary of a model file and check its form, not its meaning."""
    members = _members(path)
    if holds_program(members):
        raise UsageError(
            f"{path}: a program (TorchScript or torch.export), not a {FORMAT} file",
            fix="give --trust to run it if you know where it comes from",
        )
    content = load_plain(path, members, FORMAT, _SAVE_HINT)
    version = content.get("version")
    if type(version) is not int or not 1 <= version <= VERSION:
        raise IntegrityError(
            f"{path}: unknown version of {FORMAT}",
            expected=f"1 to {VERSION}",
            found=version,
            fix="install a newer cgbench",
        )
    _check_form(path, content)
    return content


def _members(path: Path) -> dict[str, bytes]:
    return read_members(path, FORMAT, _SAVE_HINT, "model file")


def _check_form(path: Path, content: dict[str, Any]) -> None:
    """Check that the dictionary has the parts of its version, and that tensors are plain."""
    network = content.get("network")
    state = network.get("state") if isinstance(network, dict) else None
    version = content["version"]
    parts = {"settings", "state"} if version == 1 else {"settings", "state", "kind"}
    good = (
        set(content) == {"format", "version", "spec", "network", "prior"}
        and isinstance(content["spec"], str)
        and isinstance(content["prior"], str | None)
        and (
            network is None
            or (
                isinstance(network, dict)
                and set(network) == parts
                and isinstance(network["settings"], str)
                and isinstance(network.get("kind", ""), str)
                and isinstance(state, dict)
            )
        )
    )
    if not good:
        raise IntegrityError(
            f"{path}: the parts of the file are not those of {FORMAT} version {version}",
            expected=f"format, version, spec, network ({', '.join(sorted(parts))}), prior",
            found=sorted(str(key) for key in content),
            fix=_SAVE_HINT,
        )
    if state is not None:
        check_tensors(path, state)


def _network(path: Path, content: dict[str, Any] | None) -> GraphNetwork | ChainModel | None:
    if content is None:
        return None
    kind, settings = content.get("kind", GRAPH_NETWORK), content["settings"]
    if kind not in KINDS:
        raise ValidationError(
            f"{path}: unknown kind of network",
            expected=", ".join(KINDS),
            found=kind,
            fix="install a newer cgbench",
        )
    # Without storage, so that false settings cannot ask for memory before shapes are compared.
    network = _empty(kind, settings, f"{path}: network settings")
    check_shapes(path, network.state_dict(), content["state"])
    check_finite(path, content["state"])
    network.load_state_dict(content["state"], assign=True)
    if isinstance(network, GoModel):
        network.check()
    return network


def _empty(kind: str, settings: str, origin: str) -> GraphNetwork | ChainModel:
    """Return a network of these settings, without storage for its numbers."""
    with torch.device("meta"):
        if kind == PairSpline.kind:
            return PairSpline(_json(PairSplineSettings, settings, origin))
        if kind == GoModel.kind:
            return GoModel(_json(GoModelSettings, settings, origin))
        return GraphNetwork(_json(GraphNetworkSettings, settings, origin))


def _json(model: type[Part], text: str, origin: str) -> Part:
    return validate(model, parse_json(text, origin), origin)
