"""Reading training checkpoints of other programs as data: nothing in them is ever executed.

A Lightning checkpoint is a pickle of weights, hyper-parameters and the trainer's own state, which
names classes of the trainer. torch's ``weights_only`` unpickler reads it with an inert stand-in in
the place of every name that is neither a tensor nor a plain container: what such an object was
made from is kept as plain data, its class is neither imported nor called.
"""

import contextlib
import io
import pickle
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.serialization import (
    add_safe_globals,
    clear_safe_globals,
    get_safe_globals,
    get_unsafe_globals_in_checkpoint,
    safe_globals,
)

from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.models.archive import read_limited, repacked, unpacked

_MAX_MEMBERS: Final = 100_000
#: Lightning's dictionaries of hyper-parameters, by the end of their name.
_DICTIONARY: Final = ".AttributeDict"
#: No checkpoint needs these: their stand-ins would be as harmless, but the file is not.
_HOSTILE: Final = frozenset(
    {"subprocess", "runpy", "importlib", "shutil", "socket", "ctypes", "pty", "code", "codeop"}
    | {"marshal", "multiprocessing", "asyncio", "webbrowser", "commands", "platform", "requests"}
    | {"urllib", "http", "io", "_io", "tempfile", "torch.hub"}
)
_INNOCENT_BUILTINS: Final = frozenset(
    {"set", "frozenset", "complex", "slice", "range", "bytearray", "getattr", "object", "int"}
    | {"float", "str", "bool", "list", "dict", "tuple", "type"}
)
#: Objects whose attributes are all that they are.
_NAMESPACES: Final = ("argparse.Namespace", "types.SimpleNamespace")
_PATHS: Final = re.compile(r"pathlib(\._local)?\.(Pure)?(Posix|Windows)?Path")
_RESAVE: Final = (
    "save it again with plain values only: torch.save({'hyper_parameters': dict(...), "
    "'state_dict': model.state_dict()}, path)"
)


class Unopened:
    """Stands for an object of another program that was not built.

    Attributes:
        name: Its class or function, as the file names it.
        arguments: What it was to be called with.
        state: What was to be put into it.
    """

    name: str = "an object"

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.arguments = getattr(self, "arguments", ())
        self.state = state

    def __repr__(self) -> str:
        return f"an object of {self.name}"


@dataclass(frozen=True)
class Checkpoint:
    """What a training checkpoint holds, as plain data.

    Attributes:
        path: The file.
        state: Weights by name.
        hyper_parameters: Plain values; what was no plain value is an :class:`Unopened`.
        written_by: Version of Lightning that wrote it, where it says so.
        unopened: Names in the file that were neither imported nor called.
    """

    path: Path
    state: dict[str, Tensor]
    hyper_parameters: dict[str, Any]
    written_by: str | None
    unopened: tuple[str, ...]


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a Lightning checkpoint, or a bare state dictionary; no code in it is ever executed.

    Raises:
        UsageError: No such file.
        IntegrityError: Damaged, oversized, no archive of torch, or it refers to what a checkpoint
            never needs, such as functions of the operating system.
        ValidationError: It holds no weights, or weights that are not floating-point numbers.
    """
    archive = _verified(path)
    content, unopened = _unpickled(path, archive)
    if not isinstance(content, Mapping):
        raise ValidationError(
            f"{path}: not a training checkpoint",
            expected="a dictionary with state_dict and hyper_parameters",
            found=_described(content),
            fix=_RESAVE,
        )
    bare = bool(content) and all(isinstance(value, Tensor) for value in content.values())
    state = content if bare else content.get("state_dict")
    if not isinstance(state, Mapping) or not state:
        raise ValidationError(
            f"{path}: a checkpoint without weights",
            expected="state_dict, a dictionary of tensors",
            found=f"the keys {', '.join(sorted(map(str, content))[:8]) or 'none'}",
            fix=_RESAVE,
        )
    given = {} if bare else plain(content.get("hyper_parameters") or {})
    version = None if bare else plain(content.get("pytorch-lightning_version"))
    return Checkpoint(
        path=path,
        state=_weights(path, state),
        hyper_parameters={str(key): value for key, value in given.items()}
        if isinstance(given, Mapping)
        else {},
        written_by=version if isinstance(version, str) else None,
        unopened=unopened,
    )


def plain(value: Any) -> Any:
    """Return a value as plain data where it is that under another name; others as they are."""
    if isinstance(value, Unopened):
        if value.name in _NAMESPACES and isinstance(value.state, Mapping):
            return plain(value.state)
        if _PATHS.fullmatch(value.name):
            return str(Path(*(str(part) for part in value.arguments)))
        if value.name.endswith(".multiarray.scalar"):
            return _numpy_scalar(value)
        return value
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def _numpy_scalar(value: Unopened) -> Any:
    kind, content = (*value.arguments, None, None)[:2]
    if isinstance(kind, Unopened) and isinstance(content, bytes):
        code = str((*kind.arguments, "")[0])
        if code in ("f4", "f8", "i4", "i8", "b1") and len(content) == int(code[1]):
            return np.frombuffer(content, dtype=f"<{code}")[0].item()
    return value


def _verified(path: Path) -> io.BytesIO:
    """Return an archive in memory whose parts were all read and their checksums compared."""
    if not path.is_file():
        raise UsageError(f"{path}: no such checkpoint")
    content = read_limited(path)
    if not content.startswith(b"PK\x03\x04"):
        raise IntegrityError(
            f"{path}: not an archive of torch; it was not opened",
            expected="a checkpoint written by torch 1.6 or later",
            found=f"{len(content)} bytes starting with {content[:4]!r}",
            fix="load it with the program that wrote it, and save it again with a newer torch",
        )
    return repacked(unpacked(path, content, _MAX_MEMBERS))


def _unpickled(path: Path, archive: io.BytesIO) -> tuple[Any, tuple[str, ...]]:
    """Return the content with stand-ins for foreign names, and those names."""
    try:
        with _nothing_else_allowed():
            names = sorted(get_unsafe_globals_in_checkpoint(archive))
            if hostile := [name for name in names if _hostile(name)]:
                raise pickle.UnpicklingError(f"GLOBAL {hostile[0]}")
            archive.seek(0)
            with safe_globals([(_stand_in(name), name) for name in names]):
                content = torch.load(archive, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise IntegrityError(
            f"{path}: holds something other than tensors and plain data, perhaps code; "
            "nothing of it was executed",
            # torch's own text tells readers how to run it all the same.
            found=f"a reference to {named[1]}" if named else "an object that is not plain data",
            fix=f"do not open it unless you know where it comes from; then {_RESAVE}",
        ) from error
    # torch reports damage in many ways; whatever it was, the file cannot be read.
    except Exception as error:
        raise IntegrityError(
            f"{path}: damaged, or no training checkpoint", found=_line(error)
        ) from error
    return content, tuple(names)


@contextlib.contextmanager
def _nothing_else_allowed() -> Iterator[None]:
    """Set aside the classes that other packages of this process let torch unpickle."""
    before = get_safe_globals()
    clear_safe_globals()
    try:
        yield
    finally:
        clear_safe_globals()
        add_safe_globals(before)


def _hostile(name: str) -> bool:
    module, _, function = name.rpartition(".")
    if module in ("builtins", "__builtin__"):
        return function not in _INNOCENT_BUILTINS
    return any(module == bad or module.startswith(f"{bad}.") for bad in _HOSTILE)


def _dictionary(*_: Any) -> OrderedDict[Any, Any]:
    return OrderedDict()


def _stand_in(name: str) -> Any:
    # The unpickler fills dictionaries of this very class only.
    if name.endswith(_DICTIONARY):
        return OrderedDict
    if name == "collections.defaultdict":
        return _dictionary
    return type("Unopened", (Unopened,), {"name": name})


def _weights(path: Path, state: Mapping[Any, Any]) -> dict[str, Tensor]:
    weights = {}
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
            raise ValidationError(
                f"{path}: weight {str(name)!r} is no plain tensor", found=_described(tensor)
            )
        floating = tensor.is_floating_point()
        if tensor.is_complex() or (floating and tensor.dtype not in (torch.float32, torch.float64)):
            raise ValidationError(
                f"{path}: weight {str(name)!r} in a precision that energies are not computed in",
                expected="torch.float32 or torch.float64",
                found=tensor.dtype,
                fix="convert the model to single precision and save it again",
            )
        if floating and not bool(torch.isfinite(tensor).all()):
            raise ValidationError(
                f"{path}: weight {str(name)!r} holds values that are not finite",
                found=f"{int((~torch.isfinite(tensor)).sum())} of {tensor.numel()}",
                fix="the training diverged: take an earlier checkpoint",
            )
        weights[str(name)] = tensor.detach()
    return weights


def _described(value: object) -> str:
    if isinstance(value, Unopened):
        return repr(value)
    if isinstance(value, Tensor):
        return f"a tensor, {value.layout}"
    return type(value).__name__


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
