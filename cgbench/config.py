"""Frozen configuration models, fingerprints, safe file reading and the data home."""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import platformdirs
import pydantic
import yaml

from cgbench.errors import IntegrityError, UsageError, ValidationError

#: Configuration, split and result files are small; anything larger is not one of ours.
MAX_TEXT_BYTES = 64 * 1024 * 1024


class Frozen(pydantic.BaseModel):
    """Base of all configuration and file-format models: immutable, unknown keys refused."""

    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", ser_json_inf_nan="null", protected_namespaces=()
    )


Model = TypeVar("Model", bound=pydantic.BaseModel)


def canonical_json(value: Any) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, finite numbers only."""
    if isinstance(value, pydantic.BaseModel):
        value = value.model_dump(mode="json")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def fingerprint(value: Any) -> str:
    """Return ``sha256:`` and 64 hexadecimal digits over the canonical JSON of a value."""
    return "sha256:" + hashlib.sha256(canonical_json(value).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the hexadecimal sha256 of a file, read in pieces of 8 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(8 * 1024 * 1024):
            digest.update(block)
    return digest.hexdigest()


def read_text(path: Path) -> str:
    """Read a small text file.

    Raises:
        UsageError: The file does not exist.
        IntegrityError: It is larger than 64 MiB or not UTF-8.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    size = path.stat().st_size
    if size > MAX_TEXT_BYTES:
        raise IntegrityError(
            f"{path}: too large", expected=f"at most {MAX_TEXT_BYTES} bytes", found=size
        )
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise IntegrityError(f"{path}: not a UTF-8 text file", found=error) from error


def read_data(path: Path) -> Any:
    """Read a JSON or YAML file by its suffix (plain data only, never objects).

    Raises:
        IntegrityError: The text cannot be parsed.
    """
    text = read_text(path)
    if path.suffix != ".json":
        return parse_yaml(text, path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{path}: cannot be parsed", found=error) from error


def parse_yaml(text: str, origin: object) -> Any:
    """Parse YAML text as plain data; the error names the origin.

    Raises:
        IntegrityError: The text cannot be parsed.
    """
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise IntegrityError(f"{origin}: cannot be parsed", found=error) from error


def validate(model: type[Model], data: Any, origin: object) -> Model:
    """Validate plain data as a model; the error names the origin and the first wrong fields.

    Raises:
        ValidationError: A field is missing, unknown or of the wrong type or range.
    """
    try:
        return model.model_validate(data)
    except pydantic.ValidationError as error:
        problems = [
            f"{'.'.join(str(part) for part in item['loc']) or '(top level)'}: {item['msg']}"
            for item in error.errors(include_url=False)[:5]
        ]
        raise ValidationError(
            f"{origin}: not a valid {model.__name__}", found="; ".join(problems)
        ) from error


def read_model(model: type[Model], path: Path) -> Model:
    """Read and validate a JSON or YAML file."""
    return validate(model, read_data(path), path)


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part."""
    with whole_file(path) as handle:
        handle.write(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Give a handle to a file that takes its place when all of it is written.

    The content goes to a temporary file in the same folder, is flushed to disk and renamed; after
    an error there is what was there before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        # mkstemp makes files private; results are meant to be read by others.
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_model(path: Path, model: pydantic.BaseModel) -> None:
    """Write a model as indented JSON, atomically."""
    write_atomic(path, model.model_dump_json(indent=2) + "\n")


def data_home(home: Path | None = None) -> Path:
    """Return the data home: the argument, else ``CGBENCH_HOME``, else the user's data folder."""
    if home is not None:
        return home
    if variable := os.environ.get("CGBENCH_HOME"):
        return Path(variable)
    return Path(platformdirs.user_data_dir("cgbench"))


def assets_home() -> Path:
    """Return the folder of the data embedded in the package."""
    return Path(__file__).parent / "assets"
