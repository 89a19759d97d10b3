"""Files of plain tensors and JSON from anyone: read whole, checked, and never executed."""

import io
import pickle
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from cgbench.errors import IntegrityError, UsageError, ValidationError

#: A file above this size is refused before it is read.
MAX_BYTES: Final = 512 * 1024 * 1024
_MAX_MEMBERS: Final = 10_000
#: Members that TorchScript or torch.export archives have, and archives of tensors have not.
_PROGRAM_PARTS: Final = ("/constants.pkl", "/archive_format", "serialized_exported_program.json")


def read_archive(path: Path, format_name: str, hint: str) -> dict[str, Any]:
    """Return the dictionary of a ``torch.save`` archive that names its format.

    torch compares no checksums and has its own idea of damaged headers, so it is given only what
    was read and verified here, and may build nothing but tensors and plain data.

    Args:
        path: The file.
        format_name: What its ``format`` has to be.
        hint: How such a file is made, for errors.

    Raises:
        UsageError: No such file.
        IntegrityError: Damaged, oversized, holding code, or of another format.
    """
    members = _members(path, format_name, hint)
    # torch would hand a program to its loader of programs.
    if any("/code/" in name or name.endswith(_PROGRAM_PARTS) for name in members):
        raise IntegrityError(
            f"{path}: a program, not a {format_name} file; it was not opened",
            expected="plain tensors and JSON",
            fix=hint,
        )
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as copy:
        for name, data in members.items():
            copy.writestr(name, data)
    archive.seek(0)
    try:
        content = torch.load(archive, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise IntegrityError(
            f"{path}: holds something other than tensors and plain data, perhaps code; "
            "nothing of it was executed",
            # torch's own text tells readers how to run it all the same.
            found=f"a reference to {named.group(1)}" if named else "no plain data",
            fix=hint,
        ) from error
    # torch reports damage in many ways; whatever it was, the file cannot be read.
    except Exception as error:
        raise IntegrityError(f"{path}: damaged, cannot be read", found=_summary(error)) from error
    if not isinstance(content, dict) or content.get("format") != format_name:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise IntegrityError(
            f"{path}: not a {format_name} file",
            expected=format_name,
            found=str(found or "a torch.save file of another kind")[:100],
            fix=hint,
        )
    return content


def check_tensors(path: Path, state: Any) -> dict[str, Tensor]:
    """Return weights after a check that all are named, plain and in single precision.

    Raises:
        IntegrityError: One is not.
    """
    if not isinstance(state, dict):
        raise IntegrityError(f"{path}: holds no weights by name", found=type(state).__name__)
    for name, tensor in state.items():
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
                f"{path}: weight {str(name)[:100]!r} is not a plain single-precision tensor",
                expected="a dense float32 tensor",
                found=found,
            )
    return state


def check_finite(path: Path, state: dict[str, Tensor]) -> None:
    """Check that weights are finite.

    Raises:
        ValidationError: One is not.
    """
    for name, tensor in state.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ValidationError(
                f"{path}: weight {name!r} holds values that are not finite",
                found=f"{int((~torch.isfinite(tensor)).sum())} of {tensor.numel()}",
                fix="the training diverged: take an earlier checkpoint",
            )


def check_shapes(path: Path, expected: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    """Check that weights are those of a network.

    Raises:
        ValidationError: One is missing, unknown or of another shape.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in expected.items()}
    given = {name: tuple(tensor.shape) for name, tensor in found.items()}
    if wanted != given:
        wrong = sorted(set(wanted.items()) ^ set(given.items()))[0][0]
        raise ValidationError(
            f"{path}: weight {wrong[:100]!r} does not fit the network's settings",
            expected=wanted.get(wrong, "no such weight"),
            found=given.get(wrong, "missing"),
        )


def _members(path: Path, format_name: str, hint: str) -> dict[str, bytes]:
    """Return the parts of a zip archive of reasonable size, their checksums compared."""
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise IntegrityError(
            f"{path}: too large", expected=f"at most {MAX_BYTES} bytes", found=size
        )
    content = path.read_bytes()
    if not content.startswith(b"PK\x03\x04"):
        raise IntegrityError(
            f"{path}: not a {format_name} file; it was not opened",
            expected=f"a {format_name} archive",
            found=f"{size} bytes starting with {content[:4]!r}",
            fix=hint,
        )
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            listed = archive.infolist()
            unpacked = sum(member.file_size for member in listed)
            if unpacked > MAX_BYTES or len(listed) > _MAX_MEMBERS:
                raise IntegrityError(
                    f"{path}: unpacks to too much",
                    expected=f"at most {MAX_BYTES} bytes in {_MAX_MEMBERS} members",
                    found=f"{unpacked} bytes in {len(listed)} members",
                )
            members = {member.filename: archive.read(member) for member in listed}
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, RuntimeError, EOFError) as error:
        raise IntegrityError(f"{path}: truncated or damaged", found=_summary(error)) from error
    if len(members) != len(listed):
        raise IntegrityError(f"{path}: damaged, holds parts of the same name")
    return members


def _summary(error: Exception) -> str:
    """Return the first line of an error, which for torch's runs to a page."""
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
