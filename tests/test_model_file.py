"""``model.pt``: round trips, a file of version 1 as it was written, and files that are refused."""

import contextlib
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_networks import SMALL, TYPES, small_network, small_potential, small_prior

import cgbench.models
from cgbench.errors import CgbenchError, IntegrityError, UsageError, ValidationError
from cgbench.models import (
    NetworkPotential,
    PotentialSpec,
    files,
    load_model,
    model_hash,
    save_model,
)
from cgbench.models import archive as model_archive
from cgbench.testing.strategies import random_chains

GOLDEN = Path(__file__).parent / "golden" / "graph_network_model_v1"
POS = torch.tensor(random_chains(3, len(TYPES), 11), dtype=torch.float32)
BEAD_TYPES = torch.tensor(TYPES)


def totals(potential: NetworkPotential) -> tuple[torch.Tensor, torch.Tensor]:
    result = potential.chains(BEAD_TYPES, POS)
    return result.network_energy + result.prior_energy, result.forces


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model.pt"
    save_model(path, small_potential())
    return path


def rewritten(path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    content = torch.load(path, weights_only=True)
    changed = change(content)
    torch.save(content if changed is None else changed, path)
    return path


def test_round_trip(saved: Path) -> None:
    before, after = small_potential(), load_model(saved)
    assert after.spec == before.spec
    assert after.prior == before.prior
    assert after.network is not None
    assert after.network.settings == SMALL
    for one, other in zip(totals(after), totals(before), strict=True):
        assert torch.equal(one, other)


def test_prior_alone_and_network_alone(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    spec = PotentialSpec(name="half")
    save_model(path, NetworkPotential(None, small_prior(), spec))
    prior_only = load_model(path)
    assert prior_only.network is None
    result = prior_only.chains(BEAD_TYPES, POS)
    assert result.network_energy.tolist() == [0.0] * 3
    assert result.prior_energy.abs().min() > 0
    save_model(path, NetworkPotential(small_network(), None, spec))
    assert load_model(path).prior is None
    assert load_model(path).chains(BEAD_TYPES, POS).prior_energy.tolist() == [0.0] * 3


def test_precision_is_chosen_on_loading(saved: Path) -> None:
    double = load_model(saved, dtype=torch.float64)
    energy, forces = double(BEAD_TYPES, POS[0].double(), torch.zeros_like(BEAD_TYPES))
    assert energy.dtype == forces.dtype == torch.float64


def test_same_potential_gives_the_same_bytes_and_hash(saved: Path, tmp_path: Path) -> None:
    again = tmp_path / "elsewhere" / "other.pt"
    save_model(again, load_model(saved))
    assert again.read_bytes() == saved.read_bytes()
    assert model_hash(again) == model_hash(saved)


def test_hash_is_of_content_not_of_packing(saved: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed.pt"
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(packed, "w") as new:
        for member in old.infolist():
            new.writestr(member.filename, old.read(member))
    assert packed.read_bytes() != saved.read_bytes()
    assert model_hash(packed) == model_hash(saved)


@pytest.mark.parametrize("part", ["weight", "spec", "prior"])
def test_hash_changes_with_every_part(saved: Path, part: str) -> None:
    before = model_hash(saved)

    def change(content: dict[str, Any]) -> None:
        if part == "weight":
            content["network"]["state"]["embedding.weight"][3, 1] += 1e-6
        else:
            content[part] = content[part].replace("MIT", "BSD").replace("made up", "invented")

    assert model_hash(rewritten(saved, change)) != before


def test_version_1_file_still_loads() -> None:
    path = GOLDEN.with_suffix(".pt")
    expected = json.loads(GOLDEN.with_suffix(".json").read_text())
    potential = load_model(path, dtype=torch.float64)
    result = potential.chains(
        torch.tensor(expected["bead_types"]), torch.tensor(expected["positions"]).double()
    )
    assert potential.spec.name == expected["name"]
    assert result.network_energy.tolist() == pytest.approx(expected["network_energy"], rel=1e-9)
    assert result.prior_energy.tolist() == pytest.approx(expected["prior_energy"], rel=1e-9)
    assert model_hash(path) == expected["hash"]


def test_load_by_name(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    target = home / "models" / "own" / "model.pt"
    target.parent.mkdir(parents=True)
    target.write_bytes(saved.read_bytes())
    assert cgbench.models.load("own", home).spec.name == "small"
    assert cgbench.models.load(saved).spec.name == "small"
    with pytest.raises(UsageError):
        cgbench.models.load("not-there", home)


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.marker),))


@pytest.mark.parametrize("form", ["archive", "in a part", "bare pickle", "legacy"])
def test_code_is_refused_and_not_run(saved: Path, tmp_path: Path, form: str) -> None:
    marker = tmp_path / "executed"
    if form == "archive":
        torch.save(Payload(marker), saved)
    elif form == "in a part":
        content = torch.load(saved, weights_only=True)
        torch.save({**content, "prior": Payload(marker)}, saved)
    elif form == "bare pickle":
        saved.write_bytes(pickle.dumps(Payload(marker)))
    else:
        torch.save(Payload(marker), saved, _use_new_zipfile_serialization=False)
    for read in (load_model, model_hash):
        with pytest.raises(IntegrityError, match=r"model\.pt") as caught:
            read(saved)
        assert caught.value.exit_code == 3
    assert not marker.exists()


class Doubling(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("kind", ["TorchScript", "torch.export"])
def test_programs_are_recognised(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "program.pt2"
    if kind == "TorchScript":
        torch.jit.save(torch.jit.trace(Doubling(), torch.ones(2)), path)
    else:
        torch.export.save(torch.export.export(Doubling(), (torch.ones(2),)), path)
    with pytest.raises(UsageError, match="--trust"):
        load_model(path)
    assert model_hash(path) == "sha256:" + files.file_sha256(path)


def _set(*keys: str, to: object) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = to

    return change


def _drop(*keys: str) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        for key in keys[:-1]:
            content = content[key]
        del content[keys[-1]]

    return change


def _shorter(content: dict[str, Any]) -> None:
    state = content["network"]["state"]
    state["embedding.weight"] = state["embedding.weight"][:-1].clone()


def _not_finite(content: dict[str, Any]) -> None:
    content["network"]["state"]["readout_hidden.weight"][1, 2] = float("nan")


def _larger_settings(content: dict[str, Any]) -> None:
    settings = json.loads(content["network"]["settings"])
    settings["max_bead_type"] = 100_000
    settings["embedding_dimension"] = 4096
    content["network"]["settings"] = json.dumps(settings)


WEIGHT = "embedding.weight"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (_set("format", to="another"), IntegrityError, "another"),
        (lambda content: {"state_dict": {}}, IntegrityError, "not a cgbench-model file"),
        (lambda content: torch.zeros(3), IntegrityError, "Tensor"),
        (_set("version", to=3), IntegrityError, "newer cgbench"),
        (_set("version", to=True), IntegrityError, "unknown version"),
        (_set("version", to="1"), IntegrityError, "unknown version"),
        (_drop("spec"), IntegrityError, "parts of the file"),
        (_set("extra", to=1), IntegrityError, "parts of the file"),
        (_set("network", to=[1]), IntegrityError, "parts of the file"),
        (_drop("network", "settings"), IntegrityError, "parts of the file"),
        (_set("spec", to="{not json"), IntegrityError, "spec is not JSON"),
        (_set("spec", to="{}"), ValidationError, "name: Field required"),
        (_set("prior", to='{"bonds": 3}'), ValidationError, "not a valid PriorParameters"),
        (_set("network", "settings", to='{"num_layers": 0}'), ValidationError, "num_layers"),
        (_set("network", "state", WEIGHT, to=torch.zeros(2).double()), IntegrityError, "plain"),
        (_set("network", "state", WEIGHT, to=[1.0]), IntegrityError, "plain"),
        (
            _set("network", "state", WEIGHT, to=torch.zeros(2, 2).to_sparse()),
            IntegrityError,
            "plain",
        ),
        (_set("network", "state", "more", to=torch.zeros(2)), ValidationError, "no such weight"),
        (_drop("network", "state", WEIGHT), ValidationError, "missing"),
        (_shorter, ValidationError, r"\(23, 12\)"),
        (_larger_settings, ValidationError, "does not fit the network's settings"),
        (_not_finite, ValidationError, "not finite"),
    ],
)
def test_files_that_do_not_fit_are_refused(
    saved: Path, change: Callable[[dict[str, Any]], Any], error: type[CgbenchError], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        load_model(rewritten(saved, change))
    assert str(saved) in str(caught.value)


def test_neither_network_nor_prior(saved: Path) -> None:
    with pytest.raises(ValidationError, match="neither"):
        load_model(rewritten(saved, lambda content: {**content, "network": None, "prior": None}))
    with pytest.raises(ValidationError, match="network, a prior or both"):
        NetworkPotential(None, None, PotentialSpec(name="empty"))


def test_missing_truncated_flipped_and_foreign_files(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        load_model(tmp_path / "none.pt")
    whole = saved.read_bytes()
    for length in (0, 3, 100, len(whole) // 2, len(whole) - 10):
        saved.write_bytes(whole[:length])
        with pytest.raises(IntegrityError, match=r"model\.pt"):
            load_model(saved)
    weight = small_network(dtype=torch.float32).embedding.weight
    place = whole.index(weight.detach().numpy().tobytes())
    saved.write_bytes(whole[:place] + bytes([whole[place] ^ 0x40]) + whole[place + 1 :])
    with pytest.raises(IntegrityError, match="damaged"):
        load_model(saved)
    saved.write_bytes(b"once upon a time")
    with pytest.raises(IntegrityError, match="not a model file"):
        load_model(saved)


@given(data=st.data())
@settings(max_examples=60)
def test_a_changed_byte_is_found_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("flip") / "model.pt"
    save_model(path, small_potential())
    whole, expected = path.read_bytes(), model_hash(path)
    place = data.draw(st.integers(0, len(whole) - 1))
    bit = data.draw(st.integers(0, 7))
    path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << bit)]) + whole[place + 1 :])
    found = expected
    with contextlib.suppress(CgbenchError):
        load_model(path)
        found = model_hash(path)
    assert found == expected


def test_a_part_marked_as_a_folder_is_still_read(saved: Path) -> None:
    # torch.load alone then takes whatever its buffer holds for the weights.
    before = model_hash(saved)
    with zipfile.ZipFile(saved) as archive:
        members = {member.filename: archive.read(member) for member in archive.infolist()}
    with zipfile.ZipFile(saved, "w") as archive:
        for name, data in members.items():
            member = zipfile.ZipInfo(name)
            member.external_attr = 0x10 if name.endswith("/data/1") else 0
            archive.writestr(member, data)
    assert model_hash(saved) == before


def test_two_parts_of_one_name_are_refused(saved: Path) -> None:
    with (
        pytest.warns(UserWarning, match="Duplicate name"),
        zipfile.ZipFile(saved, "a") as archive,
    ):
        archive.writestr(archive.namelist()[0], b"other")
    with pytest.raises(IntegrityError, match="same name"):
        load_model(saved)


def test_oversized_files_are_refused(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_archive, "MAX_MODEL_BYTES", 1000)
    with pytest.raises(IntegrityError, match="too large"):
        load_model(saved)


def test_archives_that_unpack_to_too_much_are_refused(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(saved, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(2_000_000))
    monkeypatch.setattr(model_archive, "MAX_MODEL_BYTES", 1_000_000)
    with pytest.raises(IntegrityError, match="unpacks to too much"):
        load_model(saved)


def test_failed_save_keeps_the_earlier_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()
    broken = small_potential(1)
    assert broken.network is not None
    with torch.no_grad():
        broken.network.readout_energy.bias.fill_(float("inf"))
    with pytest.raises(ValidationError, match=r"readout_energy\.bias"):
        save_model(saved, broken)

    def full(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="disk full"):
        save_model(saved, small_potential(2))
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_a_reference_network_is_small(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    network = cgbench.models.GraphNetwork()
    save_model(path, NetworkPotential(network, small_prior(), PotentialSpec(name="reference")))
    assert path.stat().st_size < 2_000_000
