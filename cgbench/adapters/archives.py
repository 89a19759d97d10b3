"""Checkpoints in folders and archives, such as the published archive of models.

The reference work's ``Models.zip`` holds a folder ``Models`` with a folder for each protein, named
as its topology files are (``cln`` for chignolin), and in it ``model.ckpt``.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Final

from cgbench import registry
from cgbench.errors import IntegrityError, UsageError
from cgbench.fetch.members import DAMAGE, members
from cgbench.models.archive import MAX_MODEL_BYTES

SUFFIX: Final = ".ckpt"
#: Names that are listed in messages.
_LISTED: Final = 20


@contextmanager
def checkpoint_in(
    source: Path, *, system: str | None = None, member: str | None = None
) -> Iterator[tuple[Path, str]]:
    """Give the one checkpoint that is meant, as a file, and its name in the source.

    Args:
        source: A checkpoint, a folder, or a tar or zip archive.
        system: Registry key: the checkpoint in the folder of its published name or key.
        member: Its path inside.

    Raises:
        UsageError: There is none, or several, and it is not said which.
        IntegrityError: The archive is damaged, or the checkpoint too large.
    """
    if not source.exists():
        raise UsageError(f"{source}: no such checkpoint, folder or archive")
    if source.is_file() and source.suffix == SUFFIX:
        if system is not None or member is not None:
            raise UsageError(
                f"{source}: a checkpoint", fix="--system and --member choose in an archive"
            )
        yield source, source.name
        return
    if source.is_dir():
        below = (one for one in source.rglob(f"*{SUFFIX}") if one.is_file())
        names = sorted(one.relative_to(source).as_posix() for one in below)
        found = [name for name in names if not _hidden(name)]
        chosen = _chosen(source, found, system, member)
        yield source / chosen, chosen
        return
    chosen = _chosen(source, _listed(source), system, member)
    with tempfile.TemporaryDirectory(prefix="cgbench-") as folder:
        # The folder's name is what a model without a name of its own is called.
        target = Path(folder) / (PurePosixPath(chosen).parent.name or "archive")
        target.mkdir()
        path = target / PurePosixPath(chosen).name
        path.write_bytes(_content(source, chosen))
        yield path, chosen


def _chosen(source: Path, found: list[str], system: str | None, member: str | None) -> str:
    names = "; ".join(found[:_LISTED]) + (" …" if len(found) > _LISTED else "")
    candidates = found
    if member is not None:
        candidates = [name for name in found if name == member]
    elif system is not None:
        entry = registry.system(system)
        folders = {entry.key, entry.published_key}
        candidates = [name for name in found if folders & set(PurePosixPath(name).parts[:-1])]
    if len(candidates) == 1:
        return candidates[0]
    wanted = member or ("checkpoint" if system is None else f"checkpoint of {system}")
    raise UsageError(
        f"{source}: {'which checkpoint?' if candidates else f'no {wanted} in it'}",
        expected=f"one {wanted}" if member is None else member,
        found=names or f"no file ending in {SUFFIX}",
        fix="choose with --system SYSTEM or --member PATH" if found else None,
    )


def _listed(archive: Path) -> list[str]:
    try:
        return sorted(
            one.name
            for one in members(archive)
            if not one.is_folder and one.name.endswith(SUFFIX) and not _hidden(one.name)
        )
    except DAMAGE as error:
        raise _damaged(archive, error) from error


def _hidden(name: str) -> bool:
    """Tell names that archivers of other systems add, as ``__MACOSX/._model.ckpt``."""
    parts = PurePosixPath(name).parts
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)


def _content(archive: Path, name: str) -> bytes:
    try:
        for one in members(archive):
            if one.name == name:
                with one.open() as stream:
                    content = stream.read(MAX_MODEL_BYTES + 1)
                if len(content) > MAX_MODEL_BYTES:
                    raise IntegrityError(
                        f"{archive}: {name} is too large",
                        expected=f"at most {MAX_MODEL_BYTES} bytes",
                        found=f"more than that, {one.size} stated",
                    )
                return content
    except DAMAGE as error:
        raise _damaged(archive, error) from error
    raise IntegrityError(f"{archive}: {name} is no longer in it")


def _damaged(archive: Path, error: Exception) -> IntegrityError:
    text = (str(error).splitlines() or [type(error).__name__])[0][:300]
    return IntegrityError(
        f"{archive}: damaged, cannot be read", found=text, fix="download it again"
    )
