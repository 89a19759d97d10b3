"""Checkpoints of other programs are read as data: nothing in them is ever executed."""

import argparse
import pathlib
import pickle
import subprocess
import sys
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_adapters import (
    GOLDEN,
    SETTINGS,
    Runs,
    call_of,
    replace_pickle,
    save_checkpoint,
    their_weights,
)

from cgbench.adapters import load, read_checkpoint
from cgbench.adapters.checkpoint import Unopened
from cgbench.errors import IntegrityError, UsageError, ValidationError


class AttributeDict(dict[str, Any]):
    """As Lightning's, which pickles as an object of its own class."""


class Trainer:
    """Something of a trainer that is of no interest."""

    def __init__(self) -> None:
        self.best = torch.zeros(2)


def test_a_checkpoint_as_the_trainer_writes_it() -> None:
    checkpoint = read_checkpoint(GOLDEN / "graph-network.ckpt")
    assert checkpoint.hyper_parameters["model"] == "graph-network"
    assert checkpoint.hyper_parameters["embedding_dimension"] == 16
    assert checkpoint.written_by is not None
    assert checkpoint.written_by.startswith("2.")
    name = "model.representation_model.embedding.weight"
    assert checkpoint.state[name].shape == (23, 16)
    assert checkpoint.state[name].abs().max() > 0


def test_what_is_no_plain_value_is_left_closed(tmp_path: Path) -> None:
    path = save_checkpoint(
        tmp_path / "a.ckpt",
        callbacks={Trainer: {"best": torch.zeros(2)}, "other": Trainer()},
        hparams=AttributeDict(a=1),
        optimizer_states=[defaultdict(dict, {"state": 1})],
    )
    checkpoint = read_checkpoint(path)
    assert checkpoint.hyper_parameters == SETTINGS
    assert any(name.endswith("Trainer") for name in checkpoint.unopened)
    torch.testing.assert_close(dict(checkpoint.state), their_weights())


@pytest.mark.parametrize(
    "wrapped",
    [
        argparse.Namespace(**SETTINGS),
        AttributeDict(SETTINGS),
        SETTINGS | {"log_dir": pathlib.PurePosixPath("logs/1"), "lr": np.float64(5e-4)},
    ],
    ids=["namespace", "attribute dictionary", "values of other kinds"],
)
def test_plain_containers_under_other_names(tmp_path: Path, wrapped: Any) -> None:
    path = save_checkpoint(tmp_path / "a.ckpt", hyper_parameters=wrapped)
    found = read_checkpoint(path).hyper_parameters
    assert {name: found[name] for name in SETTINGS} == SETTINGS
    assert found.get("log_dir", "logs/1") == "logs/1"


def test_what_others_let_torch_unpickle_is_set_aside(tmp_path: Path) -> None:
    """Other packages of a process may allow classes of theirs, and with them their code."""
    path = save_checkpoint(tmp_path / "a.ckpt", callbacks={"a": Trainer(), "b": defaultdict(int)})
    with torch.serialization.safe_globals([Trainer, defaultdict]):
        before = torch.serialization.get_safe_globals()
        names = read_checkpoint(path).unopened
        assert sorted(map(str, torch.serialization.get_safe_globals())) == sorted(map(str, before))
    assert any(name.endswith("Trainer") for name in names)
    assert "collections.defaultdict" in names


def test_a_hyper_parameter_that_matters_is_no_object(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "a.ckpt", {"num_rbf": Trainer()})
    found = read_checkpoint(path).hyper_parameters["num_rbf"]
    assert isinstance(found, Unopened)
    with pytest.raises(ValidationError, match="num_rbf is no plain value") as raised:
        load("torchmdnet", path)
    assert "Trainer" in str(raised.value.found)
    assert "never unpickled" in str(raised.value.fix)


HOSTILE = {
    "os": lambda mark: Runs(__import__("os").system, f"touch {mark}"),
    "subprocess": lambda mark: Runs(subprocess.call, ["touch", str(mark)]),
    "eval": lambda mark: Runs(eval, f"open({str(mark)!r}, 'w').close()"),
    "exec": lambda mark: Runs(exec, f"open({str(mark)!r}, 'w').close()"),
    "import": lambda mark: Runs(__import__, "antigravity"),
    "path": lambda mark: Runs(Path.touch, mark),
    "open": lambda mark: Runs(open, str(mark), "w"),
}


@pytest.mark.parametrize("place", ["hyper_parameters", "state_dict", "callbacks"])
@pytest.mark.parametrize("kind", sorted(HOSTILE))
def test_code_in_a_checkpoint_is_never_executed(tmp_path: Path, kind: str, place: str) -> None:
    mark = tmp_path / "executed"
    path = save_checkpoint(tmp_path / "a.ckpt", **{place: {"a": HOSTILE[kind](mark)}})
    for trust in (False, True):
        try:
            load("torchmdnet", path, trust=trust)
        except (IntegrityError, ValidationError) as error:
            told = error
        else:
            # A stand-in in a place that is of no interest: left closed, and said to be.
            assert place == "callbacks"
            told = None
        assert not mark.exists()
        assert told is not None or kind == "path"
    # The same file does run its code where it is unpickled as usual: the test can fail.
    if kind not in ("import", "path"):
        torch.load(path, weights_only=False)
        assert mark.exists()


@pytest.mark.parametrize("name", ["os.system", "nt.system", "posix.system", "subprocess.Popen"])
def test_what_it_refers_to_is_named(tmp_path: Path, name: str) -> None:
    module, _, function = name.rpartition(".")
    path = save_checkpoint(tmp_path / "a.ckpt")
    replace_pickle(path, call_of(module, function, "touch executed"))
    with pytest.raises(IntegrityError, match="nothing of it was executed") as raised:
        read_checkpoint(path)
    assert name in str(raised.value.found)


def test_stand_ins_are_called_with_anything(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "a.ckpt")
    replace_pickle(path, call_of("no_such_package.module", "Function", 1, {"a": [2]}))
    with pytest.raises(ValidationError, match="not a training checkpoint") as raised:
        read_checkpoint(path)
    assert "no_such_package.module.Function" in str(raised.value.found)
    assert "no_such_package" not in sys.modules


@pytest.mark.parametrize("share", [0.0, 0.2, 0.6, 0.95])
def test_cut_off_files(tmp_path: Path, share: float) -> None:
    content = save_checkpoint(tmp_path / "a.ckpt").read_bytes()
    path = tmp_path / "cut.ckpt"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(IntegrityError, match=r"cut\.ckpt"):
        read_checkpoint(path)


def test_every_changed_byte_of_a_weight_is_found(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "a.ckpt")
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        part = max(archive.infolist(), key=lambda item: item.file_size)
    content[part.header_offset + 200] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match="damaged"):
        read_checkpoint(path)


def test_files_of_other_kinds(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such checkpoint"):
        read_checkpoint(tmp_path / "none.ckpt")
    (tmp_path / "pickle.ckpt").write_bytes(pickle.dumps({"state_dict": {}}))
    with pytest.raises(IntegrityError, match="not an archive of torch"):
        read_checkpoint(tmp_path / "pickle.ckpt")
    torch.save([1, 2], tmp_path / "list.ckpt")
    with pytest.raises(ValidationError, match="not a training checkpoint"):
        read_checkpoint(tmp_path / "list.ckpt")
    torch.save({"epoch": 3, "model": "x"}, tmp_path / "without.ckpt")
    with pytest.raises(ValidationError, match="without weights") as raised:
        read_checkpoint(tmp_path / "without.ckpt")
    assert raised.value.found == "the keys epoch, model"
    with zipfile.ZipFile(tmp_path / "zip.ckpt", "w") as archive:
        archive.writestr("a.txt", "text")
    with pytest.raises(IntegrityError, match="no training checkpoint"):
        read_checkpoint(tmp_path / "zip.ckpt")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(2, dtype=torch.float16), "precision that energies are not computed in"),
        (torch.zeros(2, dtype=torch.complex64), "precision that energies are not computed in"),
        (torch.tensor([1.0, float("nan")]), "not finite"),
        (torch.eye(2).to_sparse(), "no plain tensor"),
        ("text", "no plain tensor"),
    ],
)
def test_weights_that_cannot_be_used(tmp_path: Path, value: Any, message: str) -> None:
    weights = their_weights() | {"model.representation_model.embedding.weight": value}
    path = save_checkpoint(tmp_path / "a.ckpt", weights=weights)
    with pytest.raises(ValidationError, match=message) as raised:
        read_checkpoint(path)
    assert "embedding.weight" in raised.value.what


def test_a_bare_state_dictionary_needs_settings(tmp_path: Path) -> None:
    torch.save(their_weights(), tmp_path / "bare.ckpt")
    assert read_checkpoint(tmp_path / "bare.ckpt").hyper_parameters == {}
    with pytest.raises(ValidationError, match="without hyper-parameters") as raised:
        load("torchmdnet", tmp_path / "bare.ckpt")
    assert "settings=FILE" in str(raised.value.fix)
