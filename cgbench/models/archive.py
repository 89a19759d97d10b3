"""Files of plain tensors and JSON from anyone: read whole, checked, and never executed."""

import hashlib
import io
import json
import pickle
import pickletools
import re
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from cgbench.config import canonical_json, write_atomic
from cgbench.errors import IntegrityError, UsageError, ValidationError

#: The reference network takes 1.2 MB; a file above this size is refused before it is read.
MAX_MODEL_BYTES: Final = 512 * 1024 * 1024
_MAX_MEMBERS: Final = 10_000
#: Names, shapes and plain data of all tensors; a thousand tensors take 100 kB.
_MAX_DESCRIPTION: Final = 4 * 1024 * 1024
#: Members that programs have and archives of tensors have not.
_PROGRAM_PARTS: Final = ("/constants.pkl", "/archive_format", "serialized_exported_program.json")


def write_archive(path: Path, content: dict[str, Any]) -> None:
    """Write a dictionary as a ``torch.save`` archive, atomically."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomic(path, buffer.getvalue())


def read_archive(path: Path, format_name: str, hint: str) -> dict[str, Any]:
    """Return the dictionary of a ``torch.save`` archive that names its format.

    Args:
        path: The file.
        format_name: What its ``format`` has to be.
        hint: How such a file is made, for errors.

    Raises:
        UsageError: No such file.
        IntegrityError: Damaged, oversized, holding code, or of another format.
    """
    members = read_members(path, format_name, hint, f"{format_name} file")
    # torch would hand a program to its loader of programs.
    if holds_program(members):
        raise IntegrityError(
            f"{path}: a program, not a {format_name} file; it was not opened",
            expected="plain tensors and JSON",
            fix=hint,
        )
    return load_plain(path, members, format_name, hint)


def named_format(path: Path) -> str | None:
    """Return the format that an archive names, without reading its tensors.

    Only the list of members and the description of the dictionary are read, and nothing is built.
    Whether the file is whole and what it says, the reader of that format tells.

    Returns:
        None where the file is not there, no archive of this kind, or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            described = [one for one in archive.infolist() if one.filename.endswith("/data.pkl")]
            if len(described) != 1 or described[0].file_size > _MAX_DESCRIPTION:
                return None
            texts = (
                value
                for _, value, _ in pickletools.genops(archive.read(described[0]))
                if isinstance(value, str)
            )
            # A dictionary is stored as its keys and values in turn.
            return next(texts, None) if "format" in texts else None
    # Damage of headers and of pickles shows in many ways.
    except Exception:  # noqa: BLE001
        return None


def load_plain(
    path: Path, members: dict[str, bytes], format_name: str, hint: str
) -> dict[str, Any]:
    """Return the dictionary of members that are no program; arguments as of `read_archive`.

    torch compares no checksums and has its own idea of damaged headers, so it is given only what
    was read and verified here, and may build nothing but tensors and plain data.

    Raises:
        IntegrityError: Damaged, holding code, or of another format.
    """
    archive = repacked(members)
    try:
        content = torch.load(archive, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        # torch's own text tells readers how to run it all the same.
        refused = (
            f"a reference to {named.group(1)}" if named else "an object that is not plain data"
        )
        raise IntegrityError(
            f"{path}: holds something other than tensors and plain data, perhaps code; "
            "nothing of it was executed",
            found=refused,
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
            found=str(found or "a torch.save file of another kind (perhaps a training checkpoint)")[
                :100
            ],
            fix=hint,
        )
    return content


def holds_program(names: Iterable[str]) -> bool:
    """Tell whether an archive with these members is TorchScript or torch.export."""
    # TorchScript keeps its source under code/, torch.export its graph under models/.
    return any("/code/" in name or name.endswith(_PROGRAM_PARTS) for name in names)


def plain_state(network: nn.Module) -> dict[str, Tensor]:
    """Return the weights of a network as they are stored: by name, in single precision."""
    return {
        name: tensor.detach().to(device="cpu", dtype=torch.float32).clone().contiguous()
        for name, tensor in sorted(network.state_dict().items())
    }


def content_hash(header: dict[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Return ``sha256:`` and 64 hexadecimal digits that name contents.

    Covered are the header as canonical JSON, and name, shape and little-endian bytes of every
    tensor in order of names: not how an archive was packed.
    """
    digest = hashlib.sha256(canonical_json(header).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{name} float32 {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().numpy().astype("<f4").tobytes())
    return "sha256:" + digest.hexdigest()


def parse_json(text: str, origin: str) -> Any:
    """Return what a text of JSON says.

    Raises:
        IntegrityError: It is no JSON.
    """
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise IntegrityError(f"{origin} is not JSON", found=str(error)[:200]) from error


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


def read_members(path: Path, format_name: str, hint: str, what: str) -> dict[str, bytes]:
    """Return the parts of a zip archive of reasonable size, their checksums compared.

    Args:
        path: The file.
        format_name: What is expected, for errors.
        hint: How such a file is made, for errors.
        what: What a file that is no archive at all is not, for errors.

    Raises:
        UsageError: No such file.
        IntegrityError: Damaged, oversized, or no archive.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    content = read_limited(path)
    if not content.startswith(b"PK\x03\x04"):
        pickled = content[:1] == b"\x80" or content[:2] in (b"c_", b"(l", b"(d")
        raise IntegrityError(
            f"{path}: {'a bare pickle, which may hold code' if pickled else f'not a {what}'}; "
            "it was not opened",
            expected=f"a {format_name} archive",
            found=f"{len(content)} bytes starting with {content[:4]!r}",
            fix=hint,
        )
    return unpacked(path, content)


def read_limited(path: Path) -> bytes:
    """Return the bytes of a file of reasonable size.

    Raises:
        IntegrityError: It is larger.
    """
    size = path.stat().st_size
    if size > MAX_MODEL_BYTES:
        raise IntegrityError(
            f"{path}: too large", expected=f"at most {MAX_MODEL_BYTES} bytes", found=size
        )
    return path.read_bytes()


def unpacked(path: Path, content: bytes, most: int = _MAX_MEMBERS) -> dict[str, bytes]:
    """Return the parts of a zip archive, all of them read and their checksums compared.

    Args:
        path: The file, for errors.
        content: Its bytes.
        most: How many parts it may have.

    Raises:
        IntegrityError: Damaged, or it unpacks to too much.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            listed = archive.infolist()
            size = sum(member.file_size for member in listed)
            if size > MAX_MODEL_BYTES or len(listed) > most:
                raise IntegrityError(
                    f"{path}: unpacks to too much",
                    expected=f"at most {MAX_MODEL_BYTES} bytes in {most} parts",
                    found=f"{size} bytes in {len(listed)} parts",
                )
            members = {member.filename: archive.read(member) for member in listed}
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, RuntimeError, EOFError) as error:
        raise IntegrityError(f"{path}: truncated or damaged", found=_summary(error)) from error
    if len(members) != len(listed):
        raise IntegrityError(f"{path}: damaged, holds parts of the same name")
    return members


def repacked(members: Mapping[str, bytes]) -> io.BytesIO:
    """Return an archive in memory of parts that were verified, for torch, which verifies none."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as copy:
        for name, data in members.items():
            copy.writestr(name, data)
    archive.seek(0)
    return archive


def _summary(error: Exception) -> str:
    """Return the first line of an error, which for torch's runs to a page."""
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
