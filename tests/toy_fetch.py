"""Settings, files and a second process for tests of fetching."""

import hashlib
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cgbench.fetch import Fetched, Request, Settings, fetch
from cgbench.fetch.lock import DownloadLock

#: Few attempts, small chunks, and no waiting.
QUICK = Settings(
    backoff=0.001,
    backoff_limit=0.01,
    stall_seconds=30.0,
    stall_bytes=64,
    attempts=3,
    chunk_bytes=64 * 1024,
    commit_seconds=0.2,
    reserve_bytes=0,
    seed=0,
)
#: Notices a stalled connection soon, and forgives a machine that is busy.
HASTY = QUICK.model_copy(update={"stall_seconds": 0.4, "attempts": 20})
SIZE = 700_001

SCRIPT = """
import json, sys
from pathlib import Path
from cgbench.fetch import DownloadLock, Request, Settings, fetch
home, url, settings = Path(sys.argv[1]), sys.argv[2], Settings.model_validate_json(sys.argv[3])
print("start", flush=True)
def tell(task, done, total):
    print(task, done, flush=True)
request = Request("raw/a.npy", (url,), home / "raw/a.npy")
fetched = fetch(request, DownloadLock(home), settings, tell)
print("done", fetched.transferred, fetched.sha256, flush=True)
"""


def random_bytes(size: int = SIZE, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def write_file(folder: Path, data: bytes, name: str = "a.npy") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(data)
    return folder


def request(home: Path, *urls: str, size: int | None = None, sha: str | None = None) -> Request:
    return Request("raw/a.npy", urls, home / "raw" / "a.npy", size, sha)


def get(
    home: Path,
    *urls: str,
    settings: Settings = QUICK,
    size: int | None = None,
    sha: str | None = None,
) -> Fetched:
    return fetch(request(home, *urls, size=size, sha=sha), DownloadLock(home), settings)


def leftovers(home: Path) -> list[str]:
    """Return the names of files next to the target."""
    folder = home / "raw"
    return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []


def fetch_elsewhere(
    home: Path, url: str, settings: Settings = QUICK, prelude: str = ""
) -> subprocess.Popen[str]:
    """Fetch in another process, whose output tells of its progress."""
    return subprocess.Popen(
        [sys.executable, "-c", prelude + SCRIPT, str(home), url, settings.model_dump_json()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.01)
