"""The ``sampler.pt`` format: plain tensors and JSON, never code.

Version 1 is a ``torch.save`` archive of one dictionary: ``format`` ("cgbench-sampler"), ``version``
(1), ``kind`` (one of ``KINDS``), ``spec`` (JSON of SamplerSpec), ``settings`` (JSON of the kind's
settings) and ``weights`` (named tensors in single precision).
"""

from importlib import import_module
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from cgbench.config import Frozen, canonical_json, validate
from cgbench.errors import IntegrityError, ValidationError
from cgbench.models.archive import (
    check_finite,
    check_shapes,
    check_tensors,
    content_hash,
    named_format,
    parse_json,
    plain_state,
    read_archive,
    write_archive,
)
from cgbench.samplers.contract import SamplerSpec
from cgbench.samplers.learned import LearnedSampler

FORMAT: Final = "cgbench-sampler"
VERSION: Final = 1
#: For each kind: the module, the class of its settings and the class of its network.
_CLASSES: Final = {
    "nemo": ("cgbench.nemo.model", "NemoSettings", "Nemo"),
    "recurrent": ("cgbench.samplers.recurrent", "RecurrentSettings", "RecurrentNetwork"),
}
#: What a sampler may be.
KINDS: Final = tuple(_CLASSES)
_PARTS: Final = ("format", "version", "kind", "spec", "settings", "weights")
_SAVE_HINT: Final = "make the file with cgbench.samplers.save_sampler"


def save_sampler(path: Path, sampler: LearnedSampler) -> None:
    """Write a sampler, atomically; the same sampler always gives the same bytes.

    Weights are stored in single precision, whatever precision the network is in.

    Raises:
        ValidationError: A weight is not finite, or the network is of no known kind.
    """
    network = sampler.network
    if network.kind not in KINDS:
        raise ValidationError(
            f"{path}: unknown kind of sampler", expected=", ".join(KINDS), found=network.kind
        )
    weights = plain_state(network)
    check_finite(path, weights)
    content = {
        "format": FORMAT,
        "version": VERSION,
        "kind": network.kind,
        "spec": canonical_json(sampler.spec),
        "settings": canonical_json(network.settings),
        "weights": weights,
    }
    write_archive(path, content)


def load_sampler(
    path: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> LearnedSampler:
    """Read a sampler. No code in the file is ever executed.

    Args:
        path: A ``sampler.pt``.
        device: Where the weights go.
        dtype: Precision of the computation; stored weights are single precision.

    Raises:
        UsageError: No such file.
        IntegrityError: Damaged, oversized, holding code, of another format or a newer version.
        ValidationError: Kind, settings, spec and weights do not fit together or are not finite.
    """
    content = _read(path)
    spec = validate(SamplerSpec, parse_json(content["spec"], f"{path}: spec"), f"{path}: spec")
    kind = content["kind"]
    if kind not in KINDS:
        raise ValidationError(
            f"{path}: unknown kind of sampler",
            expected=", ".join(KINDS),
            found=kind[:100],
            fix="install a newer cgbench",
        )
    origin = f"{path}: settings"
    # Without storage, so that false settings cannot ask for memory before shapes are compared.
    with torch.device("meta"):
        network = _empty(kind, parse_json(content["settings"], origin), origin)
    check_shapes(path, network.state_dict(), content["weights"])
    check_finite(path, content["weights"])
    network.load_state_dict(content["weights"], assign=True)
    return LearnedSampler(network.to(device=device, dtype=dtype).eval(), spec)


def sampler_hash(path: Path) -> str:
    """Return ``sha256:`` and 64 hexadecimal digits that name a sampler.

    The hash covers content: format, version, kind, JSON parts in canonical form, and name, shape
    and little-endian bytes of every tensor in order of names.

    Raises:
        UsageError: No such file.
        IntegrityError: Damaged, oversized, holding code, or of another format.
    """
    content = _read(path)
    header = {
        "format": content["format"],
        "version": content["version"],
        "kind": content["kind"],
        "spec": parse_json(content["spec"], f"{path}: spec"),
        "settings": parse_json(content["settings"], f"{path}: settings"),
    }
    return content_hash(header, content["weights"])


def is_sampler(path: Path) -> bool:
    """Tell whether a file says that it is a sampler rather than a potential.

    Its weights are not read: whether it is whole, :func:`load_sampler` tells.
    """
    return named_format(path) == FORMAT


def _read(path: Path) -> dict[str, Any]:
    """Read the dictionary of a sampler file and check its form, not its meaning."""
    content = read_archive(path, FORMAT, _SAVE_HINT)
    version = content.get("version")
    if type(version) is not int or version != VERSION:
        raise IntegrityError(
            f"{path}: unknown version of {FORMAT}",
            expected=VERSION,
            found=repr(version)[:100],
            fix="install a newer cgbench",
        )
    texts = ("kind", "spec", "settings")
    if set(content) != set(_PARTS) or not all(isinstance(content[part], str) for part in texts):
        raise IntegrityError(
            f"{path}: the parts of the file are not those of {FORMAT} version {VERSION}",
            expected=", ".join(_PARTS),
            found=sorted(str(key)[:50] for key in content)[:20],
            fix=_SAVE_HINT,
        )
    check_tensors(path, content["weights"])
    return content


def _empty(kind: str, settings: Any, origin: str) -> nn.Module:
    """Return a network of these settings."""
    module, settings_name, network_name = _CLASSES[kind]
    found = import_module(module)
    shape: Frozen = validate(getattr(found, settings_name), settings, origin)
    network: nn.Module = getattr(found, network_name)(shape)
    return network
