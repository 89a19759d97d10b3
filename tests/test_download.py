"""``cgbench download`` against a loopback publisher: what a user sees, gets and is told."""

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from fault_server import Fault, FaultServer
from publisher import (
    find,
    place,
    publish_archive,
    publish_entry,
    publish_setup,
    publish_training,
    sha256,
)
from typer.testing import CliRunner

import cgbench.fetch
from cgbench import registry
from cgbench.cli.main import app
from cgbench.errors import CgbenchError
from cgbench.evaluate.native import read_native
from cgbench.fetch import Settings
from cgbench.store import find_native

Run = Callable[..., Result]
KEYS = ["system", "kind", "name", "url", "size", "sha256", "pinned", "local"]


def flat(text: str) -> str:
    """What a table says, whatever the width that it was broken to."""
    return " ".join(re.sub(r"[│┃]", " ", text).split())


class Impatient(Settings):
    """Settings of a user who does not wait for servers that are down."""

    attempts: int = 1
    backoff: float = 0.0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "server"
    folder.mkdir()
    return folder


@pytest.fixture
def server(root: Path) -> Iterator[FaultServer]:
    with FaultServer(root) as running:
        yield running


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lead everything that is not on loopback to a port where nobody listens."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.delenv("ALL_PROXY", raising=False)
    monkeypatch.setattr(cgbench.fetch, "Settings", Impatient)


@pytest.fixture
def run(server: FaultServer, home: Path, offline: None) -> Run:
    def call(*arguments: str, mirror: str | None = server.url) -> Result:
        given = [] if mirror is None else ["--mirror", mirror]
        command = ["download", *arguments, "--home", str(home), *given]
        return CliRunner().invoke(app, command, env={"COLUMNS": "250"})

    return call


def records(result: Result) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def failure(result: Result) -> CgbenchError:
    assert isinstance(result.exception, CgbenchError)
    return result.exception


def lock(home: Path) -> dict[str, Any]:
    entries: dict[str, Any] = json.loads((home / "downloads.lock.json").read_text())["files"]
    return entries


def test_training_arrays_arrive_and_are_locked(run: Run, root: Path, home: Path) -> None:
    content = publish_training(root, "chignolin")
    result = run("chignolin", "--kind", "training")
    assert result.exit_code == 0, result.output
    for name, data in content.items():
        assert (home / "raw" / "chignolin" / name).read_bytes() == data
        assert lock(home)[f"raw/chignolin/{name}"]["sha256"] == sha256(data)
    assert "4 not pinned, their hashes now in downloads.lock.json" in flat(result.stderr)
    again = run("chignolin", "--kind", "training")
    assert again.exit_code == 0
    assert "4 as on first download" in flat(again.stderr)
    assert "0 B fetched" in flat(again.stderr)


@pytest.mark.data
def test_the_default_is_setup_native_and_training(
    run: Run, root: Path, home: Path, published_dir: Path
) -> None:
    publish_training(root, "chignolin")
    publish_setup(root, "chignolin", published_dir)
    entry = (published_dir / "native" / "full" / "5AWL.pdb").read_bytes()
    publish_entry(root, "chignolin", entry)
    result = run("chignolin")
    assert result.exit_code == 0, result.output
    below = {path.relative_to(home).as_posix() for path in home.rglob("*.*") if path.is_file()}
    assert {path for path in below if not path.startswith(".")} >= {
        "downloads.lock.json",
        "native/chignolin.pdb",
        "raw/chignolin/chignolin_ca_coords.npy",
        "raw/chignolin/chignolin_ca_deltaforces.npy",
        "raw/chignolin/chignolin_ca_embeddings.npy",
        "raw/chignolin/chignolin_ca_forces.npy",
        "raw/chignolin/native/5AWL.pdb",
        "raw/chignolin/setup/cln.psf",
        "raw/chignolin/setup/cln_kcenters_32clusters_coords.xtc",
        "raw/suite/setup/prior_force_field.yaml",
    }
    system = registry.system("chignolin")
    assert read_native(find_native("chignolin", home), system.sequence).shape == (10, 3)
    assert "native structure: 5AWL model 1 chain A residues 1 to 10" in flat(result.stderr)
    assert "3 as the registry pins them, 5 not pinned" in flat(result.stderr)


@pytest.mark.data
def test_mutants_are_reported_with_what_their_entry_says(
    run: Run, root: Path, home: Path, published_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = (published_dir / "mutants" / "1P7I.pdb").read_bytes()
    publish_entry(root, "homeodomain-1P7I", entry)
    assert run("homeodomain-1P7I").exit_code == 0
    assert (home / "native" / "homeodomain-1P7I.pdb").is_file()
    # The same protein under the name of a mutant that the registry knows nothing of.
    publish_entry(root, "homeodomain-1DU0", entry.replace(b"   1P7I", b"   1DU0", 1))
    result = run("homeodomain-1DU0")
    assert result.exit_code == 0, result.output
    sequence = registry.mutant("homeodomain-1P7I").sequence
    assert f"sequence read from the entry: {sequence}" in flat(result.stderr)
    assert "mutations of homeodomain: K50A" in flat(result.stderr)
    publish_entry(root, "a3d-2MTQ", entry.replace(b"   1P7I", b"   2MTQ", 1))
    result = run("a3d-2MTQ")
    assert result.exit_code == 4
    assert "no chain of 2MTQ is a3d but for a few residues" in flat(result.stderr)
    assert not (home / "native" / "a3d-2MTQ.pdb").exists()


@pytest.mark.data
def test_a_user_s_own_native_structure_is_kept(
    run: Run, root: Path, home: Path, published_dir: Path
) -> None:
    publish_entry(root, "chignolin", (published_dir / "native/full/5AWL.pdb").read_bytes())
    own = home / "native" / "chignolin.pdb"
    own.parent.mkdir(parents=True)
    own.write_text("REMARK my own\nEND\n")
    result = run("chignolin", "--kind", "native")
    assert result.exit_code == 0
    assert "is your own and was kept" in flat(result.stderr)
    assert own.read_text() == "REMARK my own\nEND\n"
    assert run("chignolin", "--kind", "native", "--force").exit_code == 0
    assert own.read_text() != "REMARK my own\nEND\n"


def test_list_is_offline_and_complete(run: Run, server: FaultServer, home: Path) -> None:
    result = run("--list", mirror=None)
    assert result.exit_code == 0, result.output
    assert "198 files" in result.stdout
    assert "25 pinned" in result.stdout
    assert "805 GB" in result.stdout
    assert "Left out of totals" in flat(result.stderr)
    listed = records(run("--list", "--json", mirror=None))
    assert [list(record) for record in listed] == [KEYS] * 198
    assert [record["url"] for record in listed] == [one.url for one in registry.remote_files()]
    assert not any(record["local"] for record in listed)
    assert server.count() == 0
    assert not home.exists()


def test_list_knows_what_is_here(run: Run, root: Path, home: Path) -> None:
    content = publish_training(root, "chignolin")
    run("chignolin", "--kind", "training")
    (home / "raw/chignolin/chignolin_ca_forces.npy").write_bytes(b"cut off")
    by_name = {one["name"]: one for one in records(run("chignolin", "--list", "--json"))}
    coordinates = by_name["chignolin_ca_coords.npy"]
    assert coordinates["local"] is True
    assert coordinates["pinned"] is False
    assert coordinates["sha256"] == sha256(content["chignolin_ca_coords.npy"])
    assert coordinates["size"] == len(content["chignolin_ca_coords.npy"])
    assert by_name["chignolin_ca_forces.npy"]["local"] is False
    assert by_name["cln.psf"]["pinned"] is True


def test_sizes_come_from_the_server_or_with_the_reason(
    run: Run, root: Path, server: FaultServer, home: Path
) -> None:
    content = publish_training(root, "chignolin")
    missing = find("chignolin", "chignolin_ca_forces.npy")
    place(root, missing).unlink()
    arguments = ("chignolin", "--kind", "training", "--sizes")
    by_name = {one["name"]: one for one in records(run(*arguments, "--json"))}
    coordinates = by_name["chignolin_ca_coords.npy"]
    assert coordinates["size"] == len(content["chignolin_ca_coords.npy"])
    assert "error" not in coordinates
    assert by_name[missing.name]["size"] is None
    assert "404" in by_name[missing.name]["error"]
    table = run(*arguments).stdout
    assert "404" in table
    assert "1 unknown" in table
    assert server.sent() < 100
    assert not (home / "raw").exists()


def test_a_dry_run_fetches_nothing(run: Run, server: FaultServer, home: Path) -> None:
    result = run("chignolin", "--dry-run")
    assert result.exit_code == 0, result.output
    assert f"{server.url}/protein_thermodynamics_data" in result.stdout.replace("\n", "")
    assert "free at" in flat(result.stderr)
    assert server.count() == 0
    assert not home.exists()


def test_one_failure_does_not_stop_the_others(
    run: Run, root: Path, server: FaultServer, home: Path
) -> None:
    publish_training(root, "chignolin")
    publish_training(root, "trpcage")
    broken = find("chignolin", "chignolin_ca_forces.npy")
    server.script(broken.url, Fault(html=True, times=None))
    result = run("chignolin", "trpcage", "--kind", "training", "--json")
    assert result.exit_code == 3
    by_name = {one["name"]: one for one in records(result)}
    assert len(by_name) == 8
    failed = by_name.pop(broken.name)
    assert not failed["local"]
    assert "html" in failed["error"].lower()
    assert all(one["local"] and one["error"] is None for one in by_name.values())
    assert f"raw/chignolin/{broken.name}" in flat(result.stderr)


def test_the_worst_failure_is_the_exit_code(run: Run, root: Path, server: FaultServer) -> None:
    publish_training(root, "chignolin")
    np.save(place(root, find("chignolin", "chignolin_ca_coords.npy")), np.zeros((5, 11, 3)))
    place(root, find("chignolin", "chignolin_ca_forces.npy")).unlink()
    result = run("chignolin", "--kind", "training", "--json")
    assert result.exit_code == 4
    errors = {one["name"]: one["error"] for one in records(result) if one["error"]}
    assert sorted(errors) == ["chignolin_ca_coords.npy", "chignolin_ca_forces.npy"]
    assert "(n_frames, 10, 3)" in errors["chignolin_ca_coords.npy"]


def test_arrays_of_the_wrong_protein_are_refused_before_the_bulk(
    run: Run, root: Path, server: FaultServer, home: Path
) -> None:
    file = find("chignolin", "chignolin_ca_coords.npy")
    path = place(root, file)
    np.save(path, np.zeros((40_000, 20, 3), np.float32))
    result = run("chignolin", "--kind", "training")
    assert result.exit_code == 4
    assert server.sent(file.url) < 300_000 < path.stat().st_size
    assert not (home / file.path).exists()


def test_a_changed_file_is_an_error_until_it_is_forced(run: Run, root: Path, home: Path) -> None:
    publish_training(root, "chignolin")
    assert run("chignolin", "--kind", "training").exit_code == 0
    name = "raw/chignolin/chignolin_ca_coords.npy"
    (home / name).unlink()
    publish_training(root, "chignolin", seed=2)
    result = run("chignolin", "--kind", "training")
    assert result.exit_code == 3
    assert "not the content that is expected" in flat(result.stderr)
    assert not (home / name).exists()
    # Only coordinates differ now: all arrays are of the new version after it.
    assert run("chignolin", "--kind", "training", "--force").exit_code == 0
    new = place(root, find("chignolin", "chignolin_ca_coords.npy")).read_bytes()
    assert (home / name).read_bytes() == new
    assert lock(home)[name]["sha256"] == sha256(new)


def test_verify_hashes_what_is_here(run: Run, root: Path, home: Path) -> None:
    publish_training(root, "chignolin")
    run("chignolin", "--kind", "training")
    path = home / "raw/chignolin/chignolin_ca_coords.npy"
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert run("chignolin", "--kind", "training").exit_code == 0
    result = run("chignolin", "--kind", "training", "--verify")
    assert result.exit_code == 3
    assert "chignolin_ca_coords.npy" in flat(result.stderr)


def test_archives_are_unpacked_on_request(run: Run, root: Path, home: Path) -> None:
    file = find("chignolin", "chignolin_trajectories.tar.gz")
    publish_archive(root, file, {"0/output.xtc": b"xtc", "1/output.xtc": b"other"})
    folder = home / "raw/chignolin/reference/chignolin_trajectories"
    assert run("chignolin", "--kind", "reference").exit_code == 0
    assert (home / file.path).is_file()
    assert not folder.exists()
    result = run("chignolin", "--kind", "reference", "--extract")
    assert result.exit_code == 0
    assert (folder / "1" / "output.xtc").read_bytes() == b"other"
    assert "2 files unpacked into" in flat(result.stderr)


def test_an_unsafe_archive_is_a_failure_of_its_own(run: Run, root: Path, home: Path) -> None:
    publish_archive(root, find("bba", "bba_trajectories.tar.gz"), {"../../../evil": b"x"})
    publish_archive(root, find("ntl9", "ntl9_trajectories.tar.gz"), {"good": b"x"})
    result = run("bba", "ntl9", "--kind", "reference", "--extract")
    assert result.exit_code == 3
    assert "outside the folder" in flat(result.stderr)
    assert (home / "raw/ntl9/reference/ntl9_trajectories/good").is_file()
    assert not list(home.rglob("evil"))


def test_what_a_server_says_is_no_markup(run: Run, root: Path, server: FaultServer) -> None:
    publish_training(root, "chignolin")
    file = find("chignolin", "chignolin_ca_forces.npy")
    server.script(file.url, Fault(headers={"Content-Encoding": "[/b]"}, times=None))
    result = run("chignolin", "--kind", "training")
    assert result.exit_code == 3
    assert "encoded as [/b]" in flat(result.stderr)
    result = run("chignolin", "--kind", "training", "--sizes")
    assert result.exit_code == 0
    assert "[/b]" in result.stdout
    publish_entry(root, "chignolin", b"HEADER\nATOM  \x1b]0;title\x07\n")
    result = run("chignolin", "--kind", "native")
    assert result.exit_code == 3
    assert "?]0;title?" in flat(result.stderr)


def test_a_disk_that_fails_while_unpacking_is_a_failure_of_one_file(
    run: Run, root: Path, home: Path
) -> None:
    publish_archive(root, find("bba", "bba_trajectories.tar.gz"), {"good": b"x"})
    publish_archive(root, find("ntl9", "ntl9_trajectories.tar.gz"), {"good": b"x"})
    in_the_way = home / "raw/bba/reference/bba_trajectories/good"
    in_the_way.mkdir(parents=True)
    result = run("bba", "ntl9", "--kind", "reference", "--extract", "--json")
    assert result.exit_code == 2
    assert ["good" in (one["error"] or "") for one in records(result)] == [True, False]
    assert (home / "raw/ntl9/reference/ntl9_trajectories/good").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["chignlin"], "did you mean chignolin"),
        (["chignolin", "--kind", "trainin"], "did you mean training"),
        (["chignolin-sample"], "comes with the package"),
        (["lambda-1LLI", "--kind", "reference"], "no files of kind reference"),
        ([], "which systems"),
        (["chignolin", "--mirror", "ftp://127.0.0.1"], "not the address of a mirror"),
        (["chignolin", "--mirror", "http:///data"], "not the address of a mirror"),
        (["chignolin", "--mirror", "http://127.0.0.1:99999"], "not the address of a mirror"),
        (["chignolin", "--mirror", "http://[::1"], "not the address of a mirror"),
    ],
)
def test_wrong_commands_are_usage_errors(run: Run, arguments: list[str], message: str) -> None:
    error = failure(run(*arguments, mirror=None))
    assert error.exit_code == 2
    assert message in error.message


def test_a_mirror_may_be_a_folder_and_the_origin_is_next(
    run: Run, root: Path, home: Path, tmp_path: Path
) -> None:
    content = publish_training(root, "chignolin")
    result = run("chignolin", "--kind", "training", mirror=root.as_uri())
    assert result.exit_code == 0, result.output
    assert (home / "raw/chignolin/chignolin_ca_coords.npy").read_bytes() == content[
        "chignolin_ca_coords.npy"
    ]
    empty = tmp_path / "empty"
    empty.mkdir()
    result = run("bba", "--kind", "training", mirror=empty.as_uri())
    assert result.exit_code == 3
    assert "pub.htmd.org" in flat(result.stderr)
