"""What the writer knows of the raw files behind a source: names at once, hashes at the end."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from cgbench.progress import Progress
from cgbench.store.schema import SourceFile


class RawFiles(Protocol):
    """The raw files of a store, hashed while it is being written.

    A hash over hundreds of gigabytes before the first shard would double the time, and is not even
    possible where a file is streamed. So an unfinished store is known by what can be seen at once,
    and the finished one by the hashes.
    """

    def identity(self) -> Sequence[Mapping[str, Any]]:
        """Return role, name, size and a stamp (time of change, ETag) of each file, as plain data.

        An interrupted store is continued only with equal identities.
        """

    def written(self, store: Path, fraction: float) -> None:
        """Hear that the first part of the frames is finished; its bytes are still in memory."""

    def hashed(self, store: Path, progress: Progress) -> tuple[SourceFile, ...]:
        """Return every file with its sha256, when all frames are written.

        Raises:
            IntegrityError: A file has changed since its identity was taken.
        """

    def close(self) -> None:
        """Stop hashing; called in any case."""
