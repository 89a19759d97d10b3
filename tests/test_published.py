"""The reference work's own trajectories, from a loopback publisher with the layout of its list."""

import io
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from fault_server import Fault, FaultServer
from publisher import place, publish_archive
from toy_ensembles import beads_topology, chains, write
from toy_reference import NATIVE, toy_input

import cgbench.pipeline.evaluate_ensemble
from cgbench import registry
from cgbench.config import write_atomic
from cgbench.errors import UsageError
from cgbench.evaluate.ensemble_files import EnsembleFiles
from cgbench.evaluate.reference import (
    build_from_trajectories,
    bundle_fingerprint,
    write_reference,
)
from cgbench.fetch import Settings
from cgbench.pipeline.published import PublishedOptions, evaluate_published, frame_interval
from cgbench.registry import remote_files
from cgbench.results import read_result

PATIENT = Settings(attempts=6, backoff=0.0)
IMPATIENT = PATIENT.model_copy(update={"attempts": 1})
SPECIFIC = "chignolin_cgtraj_protspecific.tar.gz"
MULTI = "chignolin_cgtraj_multiprotein.tar.gz"
N_REPLICAS, N_FRAMES = 6, 80


@pytest.fixture(scope="module")
def bundle():
    built = build_from_trajectories(toy_input(n_trajectories=60)[0], n_resamples=2)
    metadata = built.metadata.model_copy(update={"system": "chignolin"})
    renamed = replace(built, metadata=metadata)
    return replace(renamed, fingerprint=bundle_fingerprint(renamed))


@pytest.fixture
def home(tmp_path: Path, bundle) -> Path:
    write_reference(tmp_path / "home" / "references" / "v2" / "chignolin.zarr", bundle)
    return tmp_path / "home"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FaultServer]:
    (tmp_path / "server").mkdir()
    with FaultServer(tmp_path / "server") as running:
        yield running


def replicas(
    tmp_path: Path, interval: float | None, folder: str, sequence: str
) -> dict[str, bytes]:
    """Members of an archive: one xtc a replica."""
    members = {}
    for number in range(N_REPLICAS):
        times = {} if interval is None else {"time": interval * np.arange(1, N_FRAMES + 1)}
        frames = chains(N_FRAMES, number)
        path = write(tmp_path / "replica.xtc", frames, beads_topology(sequence), **times)
        members[f"{folder}/{folder}_{number}.xtc"] = path.read_bytes()
    return members


def publish(root: Path, tmp_path: Path, interval: float | None = 0.2, **changes: bytes) -> None:
    sequence = registry.system("chignolin").sequence
    for file in remote_files(["chignolin"], ["cg"]):
        if file.content == "archive":
            name = file.name.removesuffix(".tar.gz")
            publish_archive(root, file, replicas(tmp_path, interval, name, sequence))
        elif file.content == "pdb":
            top = write(tmp_path / "top.pdb", NATIVE[None], beads_topology(sequence))
            place(root, file).write_bytes(changes.get("pdb", top.read_bytes()))
        else:
            place(root, file).write_bytes(b"PSF\n\n")


def options(server: FaultServer, settings: Settings = PATIENT) -> PublishedOptions:
    return PublishedOptions(mirror=server.url, settings=settings)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few resamples, and neither figures nor a page: what is tested is where frames come from."""
    module = cgbench.pipeline.evaluate_ensemble
    monkeypatch.setattr(module, "score", partial(module.score, n_resamples=2))
    monkeypatch.setattr(module, "paper_stage", lambda *_, **__: None)
    monkeypatch.setattr(module, "report_runs", lambda *_, **__: None)


@pytest.mark.slow
def test_both_rows_are_scored_from_the_archives(
    server: FaultServer, home: Path, tmp_path: Path
) -> None:
    publish(server.root, tmp_path)
    out = tmp_path / "runs"
    results = evaluate_published(
        "cg", ["chignolin", "bba"], out=out, options=options(server), home=home
    )
    assert list(results) == ["majewski-specific", "majewski-multi"]
    for row, result in results.items():
        assert read_result(out / row / "result.json").model.name == row
        assert (result.model.kind, result.protocol.id) == ("ensemble", "paper")
        scored, missing = result.systems
        assert (scored.system, scored.status) == ("chignolin", "ok")
        assert scored.n_trajectories == N_REPLICAS
        # The first tenth is dropped.
        assert scored.n_frames == N_REPLICAS * N_FRAMES * 9 // 10
        assert any("0.2 ps apart" in note for note in scored.notes)
        assert any("sha256" in note and "pub.htmd.org" in note for note in scored.notes)
        assert scored.paper is not None
        assert (missing.system, missing.status) == ("bba", "missing")
        assert "cgbench reference build bba" in missing.reason
        assert (out / row / "report.html").is_file()
    # Nothing was asked for of the system without a reference.
    assert not any("bba" in record.path for record in server.requests)
    before = len(server.requests)
    again = evaluate_published("cg", ["chignolin"], out=out, options=options(server), home=home)
    assert [r.systems[0].metrics for r in again.values()] == [
        r.systems[0].metrics for r in results.values()
    ]
    sent = [r for r in server.requests[before:] if r.path.endswith(".tar.gz") and r.sent]
    assert not sent


@pytest.mark.parametrize(
    ("interval", "n_frames", "expected", "told"),
    [
        (0.2, 80, 0.2, "0.2 ps apart"),
        (0.1, 80, 0.1, "0.1 ps apart"),
        (200.0, 80, 0.2, "in femtoseconds by mistake"),
        (None, 7800, 0.2, "The files do not say"),
        (None, 15600, 0.1, "The files do not say"),
        (None, 80, 0.2, "is not known"),
        (7.0, 80, 0.2, "is not known (the files state 7)"),
    ],
)
def test_the_time_between_frames(
    tmp_path: Path, interval: float | None, n_frames: int, expected: float, told: str
) -> None:
    times = {} if interval is None else {"time": interval * np.arange(1, n_frames + 1)}
    for number in range(2):
        write(tmp_path / f"{number}.xtc", chains(n_frames, number), beads_topology(), **times)
    found, note = frame_interval(EnsembleFiles(tmp_path, ["chignolin"]), "chignolin")
    assert found == expected
    assert told in note


@pytest.mark.usefixtures("quick")
def test_an_interrupted_download_goes_on(server: FaultServer, home: Path, tmp_path: Path) -> None:
    publish(server.root, tmp_path)
    (archive,) = [f for f in remote_files(["chignolin"], ["cg"]) if f.name == SPECIFIC]
    path = place(server.root, archive)
    size = path.stat().st_size
    name = path.relative_to(server.root).as_posix()
    server.script(name, Fault(drop_after=size // 8, times=4))
    first = evaluate_published(
        "cg", ["chignolin"], out=tmp_path / "runs", options=options(server, IMPATIENT), home=home
    )
    specific = first["majewski-specific"].systems[0]
    assert specific.status == "missing"
    assert "cgbench download chignolin --kind cg" in specific.reason
    assert first["majewski-multi"].systems[0].status == "ok"
    second = evaluate_published(
        "cg", ["chignolin"], out=tmp_path / "runs", options=options(server), home=home
    )
    assert second["majewski-specific"].systems[0].status == "ok"
    assert server.sent(name) < 1.5 * size


@pytest.mark.usefixtures("quick")
def test_an_archive_of_something_else(server: FaultServer, home: Path, tmp_path: Path) -> None:
    publish(server.root, tmp_path)
    (archive,) = [f for f in remote_files(["chignolin"], ["cg"]) if f.name == MULTI]
    publish_archive(server.root, archive, {"README.txt": b"nothing here"})
    results = evaluate_published(
        "cg", ["chignolin"], out=tmp_path / "runs", options=options(server), home=home
    )
    missing = results["majewski-multi"].systems[0]
    assert missing.status == "missing"
    assert "no structures" in missing.reason
    assert "xtc" in missing.reason
    assert results["majewski-specific"].systems[0].status == "ok"


@pytest.mark.usefixtures("quick")
def test_an_archive_that_leaves_its_folder(server: FaultServer, home: Path, tmp_path: Path) -> None:
    publish(server.root, tmp_path)
    (archive,) = [f for f in remote_files(["chignolin"], ["cg"]) if f.name == MULTI]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as content:
        header = tarfile.TarInfo("../../escaped.xtc")
        header.size = 1
        content.addfile(header, io.BytesIO(b"x"))
    place(server.root, archive).write_bytes(buffer.getvalue())
    results = evaluate_published(
        "cg", ["chignolin"], out=tmp_path / "runs", options=options(server), home=home
    )
    assert results["majewski-multi"].systems[0].status == "missing"
    assert not list(tmp_path.rglob("escaped.xtc"))


@pytest.mark.usefixtures("quick")
def test_trajectories_of_another_protein(server: FaultServer, home: Path, tmp_path: Path) -> None:
    longer = np.cumsum(np.full((1, 12, 3), 2.2, np.float32), axis=1)
    publish(server.root, tmp_path)
    for file in remote_files(["chignolin"], ["cg"]):
        if file.content == "archive":
            path = write(tmp_path / "o.xtc", np.repeat(longer, 5, 0), beads_topology("G" * 12))
            publish_archive(server.root, file, {"a/run.xtc": path.read_bytes()})
    results = evaluate_published(
        "cg", ["chignolin"], out=tmp_path / "runs", options=options(server), home=home
    )
    reason = results["majewski-multi"].systems[0].reason
    assert "another number of atoms than its topology" in reason


def test_systems_that_are_not_published(home: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no published trajectories"):
        evaluate_published("cg", ["chignolin-sample"], out=tmp_path, home=home)
    with pytest.raises(UsageError):
        evaluate_published("mutants", ["chignolin"], out=tmp_path, home=home)


def publish_mutant(root: Path, tmp_path: Path, key: str, sequence: str) -> np.ndarray:
    """Publish a mutant that folds and unfolds; returns its native structure."""
    angle = np.arange(len(sequence)) * 1.75
    native = np.stack(
        [2.3 * np.cos(angle), 2.3 * np.sin(angle), 1.5 * np.arange(len(sequence))], axis=1
    )
    stretched = np.stack([3.3 * np.arange(len(sequence)), 1.9 * (angle % 2 > 1), 0 * angle], axis=1)
    random = np.random.default_rng(4)
    topology = beads_topology(sequence)
    members = {}
    for number in range(4):
        folded = np.arange(100) >= (0 if number == 0 else 30 * number)
        frames = np.where(folded[:, None, None], native, stretched)
        frames = (frames + random.normal(scale=0.05, size=frames.shape)).astype(np.float32)
        members[f"t/{number}.xtc"] = write(tmp_path / "m.xtc", frames, topology).read_bytes()
    for file in remote_files([key], ["mutants"]):
        if file.content == "archive":
            publish_archive(root, file, members)
        elif file.content == "pdb":
            cut = 1 if file.name.endswith("_org.pdb") else 0
            kept = beads_topology(sequence[: len(sequence) - cut])
            top = write(tmp_path / "n.pdb", native[None, : len(sequence) - cut], kept)
            write_atomic(place(root, file), top.read_bytes())
        else:
            place(root, file).write_bytes(b"PSF\n")
    return native


def test_mutants_against_their_own_structures(
    server: FaultServer, home: Path, tmp_path: Path
) -> None:
    known = registry.mutant("homeodomain-1P7I").sequence
    assert known is not None
    publish_mutant(server.root, tmp_path, "homeodomain-1P7I", known)
    publish_mutant(server.root, tmp_path, "homeodomain-1P7J", known)
    keys = ["homeodomain-1P7I", "homeodomain-1P7J", "lambda-1LLI"]
    results = evaluate_published(
        "mutants", keys, out=tmp_path / "runs", options=options(server, IMPATIENT), home=home
    )
    (result,) = results.values()
    assert result.model.name == "majewski-multi"
    first, second, third = result.systems
    assert (first.status, second.status, third.status) == ("ok", "ok", "missing")
    assert "cgbench download lambda-1LLI --kind mutants" in third.reason
    assert first.metrics["rmsd_p1"].value < 0.5
    assert 0.2 < first.metrics["rmsd_below_2p5"].value < 0.9
    assert first.metrics["rmsd_below_2p5"].lo < first.metrics["rmsd_below_2p5"].hi
    assert first.n_frames == 4 * 90
    assert any("3 of 3 trajectories that start unfolded" in note for note in first.notes)
    # One bead was built on: the experimental structure says which are scored.
    assert any("Beads 1 to 53 of 54" in note for note in second.notes)


def test_a_mutant_of_another_sequence(server: FaultServer, home: Path, tmp_path: Path) -> None:
    publish_mutant(server.root, tmp_path, "proteinb-1GAB", "G" * 47)
    results = evaluate_published(
        "mutants",
        ["proteinb-1GAB"],
        out=tmp_path / "runs",
        options=options(server, IMPATIENT),
        home=home,
    )
    (system,) = results["majewski-multi"].systems
    assert system.status == "missing"
    assert "not the sequence of proteinb-1GAB" in system.reason


def test_damaged_trajectories_of_a_mutant(server: FaultServer, home: Path, tmp_path: Path) -> None:
    known = registry.mutant("homeodomain-1P7I").sequence
    assert known is not None
    publish_mutant(server.root, tmp_path, "homeodomain-1P7I", known)
    (archive,) = [
        f for f in remote_files(["homeodomain-1P7I"], ["mutants"]) if f.content == "archive"
    ]
    path = write(tmp_path / "x.xtc", np.zeros((5, 54, 3)), beads_topology(known))
    publish_archive(server.root, archive, {"t/0.xtc": path.read_bytes()[:-40]})
    results = evaluate_published(
        "mutants",
        ["homeodomain-1P7I"],
        out=tmp_path / "runs",
        options=options(server, IMPATIENT),
        home=home,
    )
    (system,) = results["majewski-multi"].systems
    assert system.status == "missing"
    assert "0.xtc" in system.reason
