"""The ``model.pt`` format: plain tensors and JSON, never code.

Version 1 is a ``torch.save`` archive of one dictionary: ``format`` ("cgbench-model"), ``version``
(1), ``spec`` (JSON of PotentialSpec), ``network`` (``settings`` as JSON and ``state`` as named
tensors, or None) and ``prior`` (JSON of PriorParameters, or None). Its network is a graph network.

Version 2 differs in one thing: ``network`` has a ``kind``, one of those in ``KINDS``. Graph
networks are still written in version 1, so that every version of the package reads them.
"""

import hashlib
import io
import json
import pickle
import re
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from cgbench.config import Frozen, canonical_json, file_sha256, validate, write_atomic
from cgbench.errors import IntegrityError, UsageError, ValidationError
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
#: The reference network takes 1.2 MB; a file above this size is refused before it is read.
MAX_MODEL_BYTES = 512 * 1024 * 1024
_MAX_MEMBERS = 10_000
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
        state = {
            name: tensor.detach().to(device="cpu", dtype=torch.float32).clone().contiguous()
            for name, tensor in sorted(potential.network.state_dict().items())
        }
        _check_finite(path, state)
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
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomic(path, buffer.getvalue())


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
    header = {
        "format": content["format"],
        "version": content["version"],
        "spec": _parse(content["spec"], f"{path}: spec"),
        "prior": None if content["prior"] is None else _parse(content["prior"], f"{path}: prior"),
        "network": None if network is None else _parse(network["settings"], f"{path}: settings"),
    }
    if content["version"] > 1 and network is not None:
        header["kind"] = network["kind"]
    digest = hashlib.sha256(canonical_json(header).encode())
    for name, tensor in sorted((network or {"state": {}})["state"].items()):
        digest.update(f"\n{name} float32 {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().numpy().astype("<f4").tobytes())
    return "sha256:" + digest.hexdigest()


def is_program(path: Path) -> bool:
    """Tell whether a file is a program, TorchScript or torch.export; nothing of it is run.

    Raises:
        UsageError: No such file.
        IntegrityError: Damaged, oversized, or no archive.
    """
    return _is_program(_members(path))


def _read(path: Path) -> dict[str, Any]:
    """Read the dictionary of a model file and check its form, not its meaning."""
    members = _members(path)
    if _is_program(members):
        raise UsageError(
            f"{path}: a program (TorchScript or torch.export), not a {FORMAT} file",
            fix="give --trust to run it if you know where it comes from",
        )
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as copy:
        for name, data in members.items():
            copy.writestr(name, data)
    archive.seek(0)
    try:
        content = torch.load(archive, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise IntegrityError(
            f"{path}: holds something other than tensors and plain data, perhaps code; "
            "nothing of it was executed",
            found=_refused(error),
            fix=_SAVE_HINT,
        ) from error
    # torch reports damage in many ways; whatever it was, the file cannot be read.
    except Exception as error:
        raise IntegrityError(f"{path}: damaged, cannot be read", found=_summary(error)) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise IntegrityError(
            f"{path}: not a {FORMAT} file",
            expected=FORMAT,
            found=found or "a torch.save file of another kind (perhaps a training checkpoint)",
            fix=_SAVE_HINT,
        )
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
    """Return the parts of a zip archive of reasonable size, their checksums compared.

    torch compares no checksums and has its own idea of damaged headers, so it is given only what
    was read and verified here.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    size = path.stat().st_size
    if size > MAX_MODEL_BYTES:
        raise IntegrityError(
            f"{path}: too large", expected=f"at most {MAX_MODEL_BYTES}", found=size
        )
    content = path.read_bytes()
    if not content.startswith(b"PK\x03\x04"):
        pickled = content[:1] == b"\x80" or content[:2] in (b"c_", b"(l", b"(d")
        raise IntegrityError(
            f"{path}: {'a bare pickle, which may hold code' if pickled else 'not a model file'}; "
            "it was not opened",
            expected=f"a {FORMAT} archive",
            found=f"{size} bytes starting with {content[:4]!r}",
            fix=_SAVE_HINT,
        )
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            listed = archive.infolist()
            unpacked = sum(member.file_size for member in listed)
            if unpacked > MAX_MODEL_BYTES or len(listed) > _MAX_MEMBERS:
                raise IntegrityError(
                    f"{path}: unpacks to too much",
                    expected=f"at most {MAX_MODEL_BYTES} bytes in {_MAX_MEMBERS} members",
                    found=f"{unpacked} bytes in {len(listed)} members",
                )
            members = {member.filename: archive.read(member) for member in listed}
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, RuntimeError, EOFError) as error:
        raise IntegrityError(f"{path}: truncated or damaged", found=_summary(error)) from error
    if len(members) != len(listed):
        raise IntegrityError(f"{path}: damaged, holds parts of the same name")
    return members


def _is_program(names: Iterable[str]) -> bool:
    """Tell whether an archive with these members is TorchScript or torch.export."""
    return any(
        # TorchScript keeps its source under code/, torch.export its graph under models/.
        "/code/" in name
        or name.endswith(("/constants.pkl", "/archive_format", "serialized_exported_program.json"))
        for name in names
    )


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
    for name, tensor in (state or {}).items():
        plain = (
            isinstance(name, str)
            and isinstance(tensor, Tensor)
            and tensor.layout == torch.strided
            and tensor.dtype == torch.float32
        )
        if not plain:
            found = (
                f"{tensor.layout} {tensor.dtype}" if isinstance(tensor, Tensor) else type(tensor)
            )
            raise IntegrityError(
                f"{path}: weight {name!r} is not a plain single-precision tensor", found=found
            )


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
    state: dict[str, Tensor] = content["state"]
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if expected != found:
        wrong = sorted(set(expected.items()) ^ set(found.items()))[0][0]
        raise ValidationError(
            f"{path}: weight {wrong!r} does not fit the network's settings",
            expected=expected.get(wrong, "no such weight"),
            found=found.get(wrong, "missing"),
        )
    _check_finite(path, state)
    network.load_state_dict(state, assign=True)
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


def _check_finite(path: Path, state: dict[str, Tensor]) -> None:
    for name, tensor in state.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ValidationError(
                f"{path}: weight {name!r} holds values that are not finite",
                found=f"{int((~torch.isfinite(tensor)).sum())} of {tensor.numel()}",
                fix="the training diverged: take an earlier checkpoint",
            )


def _refused(error: Exception) -> str:
    """Name what an unpickler refused; torch's own text tells readers how to run it all the same."""
    named = re.search(r"GLOBAL ([\w.]+)", str(error))
    return f"a reference to {named.group(1)}" if named else "an object that is not plain data"


def _summary(error: Exception) -> str:
    """Return the first line of an error, which for torch's runs to a page."""
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def _parse(text: str, origin: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise IntegrityError(f"{origin} is not JSON", found=error) from error


def _json(model: type[Part], text: str, origin: str) -> Part:
    return validate(model, _parse(text, origin), origin)
