"""Machine code on disk, which several processes may write at once and which follows its source.

numba numbers the files of a function's code, one for each kind of arguments, by what its index
lists at that moment. Two processes that compile different kinds at once may take the same number:
one then finds the code of the other under its own key, and computes something else without a word.
Here a file is named by what is in it, so that at worst something is compiled twice. numba also
looks at nothing but the file that a function stands in; here code is used only while every file
that it may have been compiled from is the same.
"""

from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from numba.core.caching import FunctionCache, IndexDataCacheFile


class KeyedCacheFile(IndexDataCacheFile):
    """Index and files of the machine code of one function."""

    def save(self, key: Any, data: Any) -> None:
        """Write the code for a kind of arguments and a processor, then list it."""
        digest = sha256(repr((key, self._source_stamp)).encode()).hexdigest()[:16]
        name = f"{self._index_name.removesuffix('.nbi')}.{digest}.nbc"
        self._save_data(name, data)  # type: ignore[no-untyped-call]
        overloads = self._load_index()  # type: ignore[no-untyped-call]
        if overloads.get(key) != name:
            self._save_index({**overloads, key: name})  # type: ignore[no-untyped-call]


@cache
def _digest(folder: Path) -> str:
    found = sha256()
    for path in sorted(folder.glob("*.py")):
        found.update(path.name.encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


def keep_apart(dispatcher: Any) -> None:
    """Let a compiled function keep its machine code in files of its own; if it keeps any."""
    kept = dispatcher._cache
    if not isinstance(kept, FunctionCache):
        return
    folders = {Path(dispatcher.py_func.__code__.co_filename).parent, Path(__file__).parent}
    stamp = tuple(_digest(folder) for folder in sorted(folders))
    kept._cache_file = KeyedCacheFile(  # type: ignore[no-untyped-call]
        kept._cache_path, kept._impl.filename_base, stamp
    )
