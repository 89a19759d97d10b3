"""Where files are looked for, and what is said when they are nowhere."""

from pathlib import Path

import pytest
from store_sources import write

import cgbench
from cgbench.config import assets_home
from cgbench.errors import IntegrityError, UsageError
from cgbench.store import (
    Cache,
    find_model,
    find_native,
    find_reference,
    find_split,
    find_store,
    open_store,
)

PLACES = [
    (find_store, ("chignolin",), "store/chignolin.zarr"),
    (find_reference, ("chignolin",), "references/v2/chignolin.zarr"),
    (find_split, ("chignolin", "block-v1"), "splits/chignolin/block-v1.json"),
    (find_model, ("torchmd-gn/chignolin",), "models/torchmd-gn/chignolin/model.pt"),
    (find_native, ("chignolin",), "native/chignolin.pdb"),
]


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """Stand-in for the package's assets."""
    folder = tmp_path / "assets"
    monkeypatch.setattr("cgbench.store.locate.assets_home", lambda: folder)
    return folder


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.mark.parametrize(("find", "arguments", "relative"), PLACES)
def test_the_order_is_path_home_assets(find, arguments, relative, packaged, tmp_path, monkeypatch):
    home = tmp_path / "home"
    with pytest.raises(UsageError) as error:
        find(*arguments, home)
    assert str(home / relative) in error.value.message
    assert error.value.fix is not None
    embedded = touch(packaged / relative)
    assert find(*arguments, home) == embedded
    own = touch(home / relative)
    assert find(*arguments, home) == own
    monkeypatch.setenv("CGBENCH_HOME", str(tmp_path / "other"))
    assert find(*arguments) == embedded
    other = touch(tmp_path / "other" / relative)
    assert find(*arguments) == other
    assert find(*arguments, home) == own
    explicit = touch(tmp_path / f"explicit{Path(relative).suffix}")
    for given in (explicit, str(explicit)):
        assert find(*arguments[:-1], given, home) == explicit


@pytest.mark.parametrize(("find", "arguments", "relative"), PLACES)
def test_a_path_that_is_not_there_is_not_looked_for_elsewhere(
    find, arguments, relative, packaged, tmp_path
):
    touch(packaged / relative)
    for given in (tmp_path / "nowhere", str(tmp_path / "nowhere"), "./nowhere"):
        with pytest.raises(UsageError, match="no such"):
            find(*arguments[:-1], given, tmp_path)


@pytest.mark.parametrize(
    "name", ["", "../chignolin", "a/../../b", "a b", "a\n", "a//b", "-x", "a/"]
)
def test_names_cannot_leave_the_home(name, tmp_path):
    for find in (find_store, find_reference, find_model, find_native):
        with pytest.raises(UsageError):
            find(name, tmp_path)


def test_the_sample_answers_to_its_own_name_only(tmp_path):
    assert find_store("chignolin-sample", tmp_path) == (
        assets_home() / "store" / "chignolin-sample.zarr"
    )
    assert find_native("chignolin-sample", tmp_path).is_file()
    with pytest.raises(UsageError, match="cgbench preprocess chignolin"):
        find_store("chignolin", tmp_path)


def test_an_unknown_system_is_told_from_missing_data(tmp_path):
    with pytest.raises(UsageError, match="did you mean chignolin"):
        find_store("chignolinn", tmp_path)
    with pytest.raises(UsageError, match="cgbench splits make chignolin --split block-v1"):
        find_split("chignolin", "block-v1", tmp_path)
    with pytest.raises(UsageError, match="cgbench reference build lambda"):
        find_reference("lambda", tmp_path)


def test_an_unfinished_store_says_what_is_missing(tmp_path):
    folder = tmp_path / "store" / "chignolin.zarr.partial"
    write(folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(IntegrityError, match="not finished"):
        open_store("chignolin", tmp_path)


def test_addresses_are_not_looked_for_here(tmp_path, monkeypatch):
    """A name is a name: nothing that looks like one is asked of a server, and the reverse."""
    asked = []

    def remote(url, storage_options, cache):
        asked.append((url, storage_options, cache))
        raise UsageError("stop")

    monkeypatch.setattr("cgbench.store.reader.RemoteFolder", remote)
    for url in ("https://example.org/a.zarr", "http://h/a.zarr", "s3://bucket/a.zarr", "ftp://x"):
        with pytest.raises(UsageError, match="stop"):
            open_store(url, tmp_path)
    assert [url for url, *_ in asked][2] == "s3://bucket/a.zarr"
    asked.clear()
    with pytest.raises(UsageError, match="stop"):
        cgbench.open("s3://b/a.zarr", tmp_path, cache=True, storage_options={"anon": True})
    assert asked == [("s3://b/a.zarr", {"anon": True}, Cache(folder=tmp_path / "cache"))]
    asked.clear()
    for name in ("chignolin", "https:/example.org/a.zarr", "example.org/a.zarr"):
        with pytest.raises(UsageError):
            open_store(name, tmp_path)
    assert asked == []


def test_opening_gives_the_labelled_data_by_name_and_path(tmp_path):
    by_name = cgbench.open("chignolin-sample", tmp_path)
    by_path = cgbench.open(assets_home() / "store" / "chignolin-sample.zarr")
    assert by_name.attrs == by_path.attrs
    assert by_name.sizes["bead"] == 10
