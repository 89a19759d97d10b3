"""``cgbench download`` as a process: killed, interrupted, twice at once."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fault_server import Fault, FaultServer
from publisher import find, place, publish_training

COMMAND = [sys.executable, "-c", "from cgbench.cli import main; main()", "download", "chignolin"]
FILE = find("chignolin", "chignolin_ca_coords.npy")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FaultServer]:
    root = tmp_path / "server"
    publish_training(root, "chignolin", n_frames=4)
    for name in ("coords", "forces", "deltaforces"):
        file = find("chignolin", f"chignolin_ca_{name}.npy")
        values = np.random.default_rng(3).normal(size=(40_000, 10, 3)).astype(np.float32)
        np.save(place(root, file), values)
    with FaultServer(root) as running:
        yield running


def start(server: FaultServer, home: Path) -> "subprocess.Popen[str]":
    arguments = ["--kind", "training", "--mirror", server.url, "--home", str(home)]
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    return subprocess.Popen(
        [*COMMAND, *arguments],
        env=os.environ | proxies | {"NO_PROXY": "127.0.0.1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_bytes(server: FaultServer, size: int) -> None:
    while server.sent(FILE.url) < size:
        time.sleep(0.01)


def assert_whole(server: FaultServer, home: Path) -> None:
    for name in ("coords", "forces", "deltaforces", "embeddings"):
        file = find("chignolin", f"chignolin_ca_{name}.npy")
        assert (home / file.path).read_bytes() == place(server.root, file).read_bytes()
    assert not list(home.rglob("*.partial*"))


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_download_goes_on(
    kind: signal.Signals, server: FaultServer, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    size = place(server.root, FILE).stat().st_size
    server.script(FILE.url, Fault(rate=150_000, times=None))
    process = start(server, home)
    wait_for_bytes(server, size // 4)
    # What came is noted as being on disk every two seconds.
    time.sleep(2.2)
    process.send_signal(kind)
    _, messages = process.communicate(timeout=60)
    if kind == signal.SIGINT:
        assert process.returncode == 130
        assert "run the same command to continue" in messages
    assert not (home / FILE.path).exists()
    server.script(FILE.url)
    server.forget()
    again = start(server, home)
    _, messages = again.communicate(timeout=60)
    assert again.returncode == 0, messages
    assert_whole(server, home)
    assert server.sent(FILE.url) < 0.9 * size


def test_two_processes_fetch_each_file_once(server: FaultServer, tmp_path: Path) -> None:
    home = tmp_path / "home"
    size = place(server.root, FILE).stat().st_size
    server.script(FILE.url, Fault(rate=3_000_000, times=None))
    processes = [start(server, home) for _ in range(2)]
    for process in processes:
        _, messages = process.communicate(timeout=120)
        assert process.returncode == 0, messages
    assert_whole(server, home)
    assert server.sent(FILE.url) < 1.3 * size
