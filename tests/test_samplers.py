"""Samplers: their file, what is refused of it, what they draw, profiles and clusters."""

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_fuzz import FUZZ, Bomb, damaged, nothing_runs, survives
from toy_runs import save_toy_model
from toy_samplers import helix, toy_sampler

from cgbench.cli.evaluate_sampler import is_sampler_file
from cgbench.errors import (
    CgbenchError,
    IntegrityError,
    SimulationError,
    UsageError,
    ValidationError,
)
from cgbench.evaluate.alignment_search import search_scores
from cgbench.leaderboard.validate import validate
from cgbench.samplers import (
    cluster_models,
    is_sampler,
    load_sampler,
    read_profile,
    sampler_hash,
    save_sampler,
)
from cgbench.samplers.clusters import model_distances
from cgbench.samplers.learned import BATCH

__all__ = ["nothing_runs"]
SEQUENCE = "YYDPETGTWY"


@pytest.fixture(scope="module")
def sampler_bytes(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("sampler") / "sampler.pt"
    save_sampler(path, toy_sampler())
    return path.read_bytes()


def test_a_file_holds_the_whole_sampler(tmp_path: Path) -> None:
    sampler = toy_sampler(temperature=300.0)
    first, second = tmp_path / "a.pt", tmp_path / "b.pt"
    save_sampler(first, sampler)
    save_sampler(second, sampler)
    assert first.read_bytes() == second.read_bytes()
    loaded = load_sampler(first)
    assert loaded.spec == sampler.spec
    same = loaded.structures(SEQUENCE, 5, seed=3)
    assert (same == sampler.structures(SEQUENCE, 5, seed=3)).all()
    assert sampler_hash(first) == sampler_hash(second)
    with torch.no_grad():
        sampler.network.chain.bias += 1.0
    save_sampler(second, sampler)
    assert sampler_hash(first) != sampler_hash(second)


def test_potentials_and_samplers_are_told_apart(tmp_path: Path, sampler_bytes: bytes) -> None:
    model = save_toy_model(tmp_path / "model.pt")
    sampler = tmp_path / "sampler.pt"
    sampler.write_bytes(sampler_bytes)
    (tmp_path / "text.pt").write_text("no archive")
    assert [is_sampler(path) for path in (model, sampler, tmp_path / "text.pt")] == [
        False,
        True,
        False,
    ]
    assert [is_sampler_file(str(path)) for path in (model, sampler)] == [False, True]
    assert not is_sampler_file("torchmd-gn/chignolin-sample")
    assert validate(sampler).record()["kind"] == "sampler"
    assert validate(model).record()["kind"] == "model"


def test_the_format_is_told_without_reading_weights(tmp_path: Path, sampler_bytes: bytes) -> None:
    """A file of any size is told apart at once; its weights are the reader's business."""
    path = tmp_path / "large.pt"
    with zipfile.ZipFile(io.BytesIO(sampler_bytes)) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if "/data/" in member.filename:
                begin = member.header_offset + 30 + len(member.filename)
                content[begin : begin + member.file_size] = bytes(member.file_size)
    path.write_bytes(bytes(content))
    assert is_sampler(path)
    with pytest.raises(IntegrityError, match="truncated or damaged"):
        load_sampler(path)
    with path.open("r+b") as handle:
        handle.truncate(len(content) - 10)
    assert not is_sampler(path)
    torch.save({"weights": torch.zeros(3), "name": "format"}, path)
    assert not is_sampler(path)
    torch.save({"format": {"cgbench": 1}}, path)
    assert not is_sampler(path)


def changed(content: bytes, path: Path, **parts: Any) -> Path:
    """A sampler file with other parts, as a stranger could write one."""
    data = torch.load(io.BytesIO(content), weights_only=True)
    for key, value in parts.items():
        data[key] = value(data[key]) if callable(value) else value
    torch.save({key: value for key, value in data.items() if value is not None}, path)
    return path


def without_one(weights: dict[str, Any]) -> dict[str, Any]:
    return dict(list(weights.items())[1:])


@pytest.mark.parametrize(
    ("parts", "error", "told"),
    [
        ({"format": "other"}, IntegrityError, "not a cgbench-sampler file"),
        ({"version": 2}, IntegrityError, "unknown version"),
        ({"version": True}, IntegrityError, "unknown version"),
        ({"kind": "diffusion"}, ValidationError, "unknown kind"),
        ({"kind": None}, IntegrityError, "parts of the file"),
        ({"spec": "{"}, IntegrityError, "is not JSON"),
        ({"spec": "{}"}, ValidationError, "name"),
        ({"settings": '{"width": -1}'}, ValidationError, "width"),
        ({"settings": '{"width": 4096, "n_layers": 8}'}, ValidationError, "does not fit"),
        ({"weights": without_one}, ValidationError, "does not fit"),
        ({"weights": {"a": torch.zeros(2).double()}}, IntegrityError, "single-precision"),
        ({"weights": lambda all_of: {k: v * float("nan") for k, v in all_of.items()}},
         ValidationError, "not finite"),
    ],
)  # fmt: skip
def test_files_that_are_refused(
    tmp_path: Path,
    sampler_bytes: bytes,
    parts: dict[str, Any],
    error: type[CgbenchError],
    told: str,
) -> None:
    path = changed(sampler_bytes, tmp_path / "sampler.pt", **parts)
    with pytest.raises(error, match=told):
        load_sampler(path)


def test_a_bomb_does_not_go_off_and_weights_that_diverged_are_not_written(
    tmp_path: Path, sampler_bytes: bytes
) -> None:
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(io.BytesIO(sampler_bytes)) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            bomb = pickle.dumps({"format": Bomb()})
            target.writestr(name, bomb if name.endswith("data.pkl") else source.read(name))
    for reader in (load_sampler, sampler_hash):
        with pytest.raises(IntegrityError, match="nothing of it was executed"):
            reader(path)
    program = tmp_path / "program.pt"
    with zipfile.ZipFile(io.BytesIO(sampler_bytes)) as source, zipfile.ZipFile(program, "w") as to:
        for name in source.namelist():
            to.writestr(name, source.read(name))
        to.writestr("archive/constants.pkl", b"")
    with pytest.raises(IntegrityError, match="a program"):
        load_sampler(program)
    sampler = toy_sampler()
    with torch.no_grad():
        sampler.network.chain.bias.fill_(float("inf"))
    with pytest.raises(ValidationError, match="not finite"):
        save_sampler(tmp_path / "no.pt", sampler)
    assert not (tmp_path / "no.pt").exists()


@FUZZ
@given(data=st.data())
def test_damaged_files(data: st.DataObject, sampler_bytes: bytes, tmp_path: Path) -> None:
    path = tmp_path / "sampler.pt"
    path.write_bytes(data.draw(damaged(sampler_bytes)))
    for reader in (load_sampler, sampler_hash, is_sampler, validate):
        survives(reader, path)


@FUZZ
@given(data=st.data())
def test_the_pickle_inside(data: st.DataObject, sampler_bytes: bytes, tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(sampler_bytes)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = next(one for one in members if one.endswith("data.pkl"))
    members[name] = data.draw(damaged(members[name]))
    path = tmp_path / "sampler.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    survives(load_sampler, path)


def test_the_contract_of_a_sampler() -> None:
    sampler = toy_sampler(temperature=300.0)
    ensemble = sampler.sample("chignolin", 70, temperature=340.0, seed=5)
    assert (ensemble.n_frames, ensemble.n_trajectories, ensemble.time_ordered) == (70, 32, False)
    assert "trained on data of 300 K" in ensemble.notes[0]
    assert sampler.sample("chignolin", 3, temperature=300.0, seed=5).notes == ()
    # The first ones are the same however many are drawn, across the ends of batches too.
    many = sampler.structures(SEQUENCE, 2 * BATCH + 3, seed=5)
    assert (many[: BATCH + 1] == sampler.structures(SEQUENCE, BATCH + 1, seed=5)).all()
    assert not (many[:BATCH] == many[BATCH : 2 * BATCH]).all()
    assert not (sampler.structures(SEQUENCE, 3, seed=6) == many[:3]).all()
    assert np.linalg.norm(np.diff(many, axis=1), axis=2).mean() == pytest.approx(3.8, abs=0.2)
    with pytest.raises(UsageError):
        sampler.sample("nothing", 3, temperature=300.0, seed=5)
    with pytest.raises(UsageError, match="nothing to draw"):
        sampler.structures(SEQUENCE, 0, seed=5)
    with pytest.raises(ValidationError, match="no amino acid"):
        sampler.structures("AB1Z", 1, seed=5)


class Broken:
    """A network that draws something else than structures."""

    def __init__(self, drawn: torch.Tensor) -> None:
        self.drawn = drawn

    def draw(self, *arguments: Any, **options: Any) -> torch.Tensor:
        return self.drawn


def test_networks_that_draw_nonsense() -> None:
    sampler = toy_sampler()
    sampler.network = Broken(torch.full((BATCH, 10, 3), float("nan")))
    with pytest.raises(SimulationError, match="no structure of 4 is finite"):
        sampler.structures(SEQUENCE, 4, seed=1)
    sampler.network = Broken(torch.zeros(BATCH, 9, 3))
    with pytest.raises(ValidationError, match="wrong shape"):
        sampler.structures(SEQUENCE, 4, seed=1)


def test_profiles(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).dirichlet(np.ones(20), 4)
    np.save(tmp_path / "a.npy", rows)
    text = "\n".join(" ".join(["YDPX"[i], *map(str, row)]) for i, row in enumerate(rows))
    (tmp_path / "a.txt").write_text(f"# comment\n{text}\n")
    for name in ("a.npy", "a.txt"):
        assert np.allclose(read_profile(tmp_path / name, "YDPX"), rows, atol=1e-6)
    cases = {
        "x.npy": (b"no array", IntegrityError), "y.txt": (b"1 2 3", IntegrityError),
        "z.txt": (b"\xff\xfe", IntegrityError),
        "w.txt": (b"A" + text[1:].encode(), ValidationError),
    }  # fmt: skip
    for name, (content, error) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(error):
            read_profile(tmp_path / name, "YDPX")
    np.save(tmp_path / "two.npy", 2 * rows)
    for name, sequence in (("two.npy", "YDPX"), ("a.npy", "YDP"), ("a.txt", "YDPA")):
        with pytest.raises(ValidationError):
            read_profile(tmp_path / name, sequence)
    with pytest.raises(UsageError):
        read_profile(tmp_path / "none.npy", "YDPX")


def groups(n_residues: int, noise: float = 0.2) -> np.ndarray:
    """Ten models near a helix, five near a strand and two of their own, in a mixed order."""
    rng = np.random.default_rng(4)
    centres = [helix(n_residues, 50.0), helix(n_residues, -170.0)]
    parts = [centres[0][None] + rng.normal(0, noise, (10, n_residues, 3))]
    parts.append(centres[1][None] + rng.normal(0, noise, (5, n_residues, 3)))
    parts.append(np.cumsum(rng.normal(0, 2.2, (2, n_residues, 3)), axis=1))
    return np.concatenate(parts)[rng.permutation(17)]


@pytest.mark.parametrize(("n", "measure"), [(12, "rmsd"), (40, "tm_score")])
def test_clusters_are_groups_of_similar_models(n: int, measure: str) -> None:
    models = groups(n)
    found = cluster_models(models)
    assert (found.measure, found.sizes, found.n_clusters) == (measure, (10, 5, 1, 1), 4)
    own = np.linalg.norm(models - models.mean(axis=1, keepdims=True), axis=2).mean(axis=1)
    assert found.labels[found.representative] == 0
    assert own[found.labels == 1].min() > own[found.labels == 0].max()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_clusters_do_not_depend_on_order_or_place(seed: int) -> None:
    rng = np.random.default_rng(seed)
    models = groups(30)
    order = rng.permutation(len(models))
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    moved = (models @ turn.T + rng.normal(0, 50, 3))[order]
    first, second = cluster_models(models), cluster_models(moved)
    assert second.sizes == first.sizes
    assert (second.labels == first.labels[order]).all() or len(set(first.sizes)) < len(first.sizes)
    assert order[second.representative] == first.representative


def test_similarity_is_a_lower_bound_of_a_search_and_knows_mirror_images() -> None:
    models = groups(30)[:6]
    distances = model_distances(models, by_score=True)
    for index, model in enumerate(models):
        searched = search_scores(models, model).tm
        assert (1.0 - distances[index] <= searched + 1e-6).all()
    assert np.allclose(np.diag(distances), 0.0)
    mirrored = np.stack([helix(30), helix(30) * [1, 1, -1]])
    assert cluster_models(mirrored).n_clusters == 2


def test_models_that_are_not_finite_are_left_out() -> None:
    models = groups(12)
    models[3] = np.nan
    found = cluster_models(models)
    assert found.labels[3] == -1
    assert sum(found.sizes) == 16
    assert cluster_models(models[:1]).sizes == (1,)
    with pytest.raises(ValidationError, match="none is finite"):
        cluster_models(models[3:4])
    for wrong in (np.zeros((3, 2, 3)), np.zeros((3, 3)), np.zeros((2001, 4, 3))):
        with pytest.raises(ValidationError):
            cluster_models(wrong)


def test_specifications_of_samplers_are_json() -> None:
    sampler = toy_sampler(n_steps=50)
    assert json.loads(sampler.spec.model_dump_json())["n_steps"] == 50
