"""Reading and writing result files; what is read may come from anywhere."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from cgbench import config
from cgbench.errors import IntegrityError, UsageError
from cgbench.results.schema import RESULT_VERSION, Result

FORMAT: Final = "cgbench-result"
#: A result of a hundred systems takes well under a megabyte.
MAX_RESULT_BYTES: Final = 8 * 1024 * 1024

#: Turns the plain data of one version into that of the next.
Migration = Callable[[dict[str, Any]], dict[str, Any]]
#: From which version each migration starts. Version 1 is the first.
MIGRATIONS: Final[Mapping[int, Migration]] = {}


def migrate(
    data: Any,
    origin: object,
    migrations: Mapping[int, Migration] = MIGRATIONS,
    current: int = RESULT_VERSION,
) -> dict[str, Any]:
    """Bring the plain data of a result to the current version.

    Args:
        data: Parsed JSON.
        origin: Named in errors.
        migrations: One function for each older version.
        current: The version to arrive at.

    Raises:
        IntegrityError: It is not a result, or of a version that cannot be read.
    """
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = data.get("format") if isinstance(data, dict) else type(data).__name__
        raise IntegrityError(f"{origin}: not a result file", expected=FORMAT, found=repr(found))
    version = data.get("version")
    # A bool is an int to Python, but no version.
    while type(version) is int and version < current and version in migrations:
        data = migrations[version](data)
        if not isinstance(data.get("version"), int) or data["version"] <= version:
            raise IntegrityError(f"{origin}: migration from version {version} leads nowhere")
        version = data["version"]
    if type(version) is not int or version != current:
        newer = type(version) is int and version > current
        raise IntegrityError(
            f"{origin}: a result of a version that cannot be read",
            expected=f"version {current}",
            found=repr(version)[:100],
            fix="update cgbench" if newer else None,
        )
    found_data: dict[str, Any] = data
    return found_data


def read_result(path: Path) -> Result:
    """Read, migrate and validate a result file.

    Raises:
        UsageError: There is no such file.
        IntegrityError: It is too large, not JSON, or not a result of a known version.
        ValidationError: A field is missing, unknown or of the wrong type or range.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such result file")
    size = path.stat().st_size
    if size > MAX_RESULT_BYTES:
        raise IntegrityError(
            f"{path}: too large for a result", expected=f"at most {MAX_RESULT_BYTES}", found=size
        )
    if path.suffix != ".json":
        raise UsageError(f"{path}: results are JSON files", expected=".json", found=path.suffix)
    return config.validate(Result, migrate(config.read_data(path), path), path)


def write_result(path: Path, result: Result) -> None:
    """Write a result as indented JSON, atomically.

    Raises:
        UsageError: The path does not end in ``.json``.
    """
    if path.suffix != ".json":
        raise UsageError(f"{path}: results are JSON files", expected=".json", found=path.suffix)
    config.write_model(path, result)
