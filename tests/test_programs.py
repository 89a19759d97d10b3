"""Potentials that are programs: refused without trust, called as every potential with it."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from toy_networks import small_potential
from toy_programs import Differentiated, Springs, save_exported, save_script

from cgbench import registry
from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.models import ProgramPotential, check_potential, load_program, model_hash, save_model
from cgbench.pipeline.programs import find_potential, load_potential
from cgbench.simulation import SystemInput, simulate
from cgbench.store import read_trajectories
from cgbench.testing.strategies import random_chains

TYPES = torch.tensor(registry.system("chignolin-sample").bead_types)
POS = torch.tensor(random_chains(4, len(TYPES), 5), dtype=torch.float32)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("programs")
    save_exported(path / "exported.pt2", Springs())
    save_script(path / "script.pt", Springs())
    save_script(path / "differentiated.ts", Differentiated())
    save_script(path / "wrong.pt", Springs(wrong=1.5))
    save_script(path / "energy.pt", Springs(energy_only=True))
    return path


PROGRAMS = ["exported.pt2", "script.pt", "differentiated.ts"]


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_program_is_opened_without_trust(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(*_: object, **__: object) -> None:
        raise AssertionError("opened")

    monkeypatch.setattr(torch.jit, "load", opened)
    monkeypatch.setattr(torch.export, "load", opened)
    with pytest.raises(UsageError, match="a program") as raised:
        load_potential(folder / name)
    assert "--trust" in str(raised.value.fix)


@pytest.mark.parametrize("name", PROGRAMS)
def test_energies_and_forces_are_those_of_the_module(folder: Path, name: str) -> None:
    potential = load_potential(folder / name, trust=True)
    expected = [Springs()(TYPES, frame, torch.zeros_like(TYPES)) for frame in POS]
    result = potential.chains(TYPES, POS)
    torch.testing.assert_close(result.network_energy, torch.cat([e for e, _ in expected]).detach())
    torch.testing.assert_close(result.forces, torch.stack([f for _, f in expected]).detach())
    assert result.prior_energy.tolist() == [0.0] * 4
    assert not result.forces.requires_grad
    # As simulations call it, and without changing what it is given.
    before = POS.clone()
    with torch.inference_mode():
        again = potential.chains(TYPES, POS)
    torch.testing.assert_close(again.forces, result.forces)
    assert torch.equal(POS, before)
    assert not POS.requires_grad


@pytest.mark.parametrize("name", PROGRAMS)
def test_they_pass_the_conformance_suite(folder: Path, name: str) -> None:
    potential = load_potential(folder / name, trust=True)
    report = check_potential(potential, {"chignolin-sample": (TYPES, POS)})
    assert report.passed, report.failed
    assert report.potential == Path(name).stem


def test_the_conformance_suite_catches_wrong_ones(folder: Path) -> None:
    wrong = load_potential(folder / "wrong.pt", trust=True)
    report = check_potential(wrong, {"chignolin-sample": (TYPES, POS)})
    assert "forces_are_gradient" in [check.name for check in report.failed]
    energy = load_potential(folder / "energy.pt", trust=True)
    report = check_potential(energy, {"chignolin-sample": (TYPES, POS)})
    assert [check.name for check in report.failed] == ["interface"]
    with pytest.raises(ValidationError, match="wrong shapes from the program"):
        energy.chains(TYPES, POS)


def test_bead_types_that_it_does_not_have(folder: Path) -> None:
    potential = load_potential(folder / "script.pt", trust=True)
    with pytest.raises(ValidationError, match="the program failed on 10 beads") as raised:
        potential(TYPES + 1000, POS[0], torch.zeros_like(TYPES))
    assert "out of" in str(raised.value.found)


def test_what_is_said_of_it_stands_beside_it(folder: Path) -> None:
    bare = load_potential(folder / "script.pt", trust=True)
    assert (bare.spec.name, bare.spec.trained_on) == ("script", ())
    assert load_potential(folder / "script.pt", trust=True, name="mine").spec.name == "mine"
    beside = folder / "exported.json"
    beside.write_text(json.dumps({"cutoff": 12.0, "licence": "MIT"}))
    spec = load_potential(folder / "exported.pt2", trust=True).spec
    assert (spec.name, spec.cutoff, spec.licence) == ("exported", 12.0, "MIT")
    beside.write_text(json.dumps({"cutof": 12.0}))
    with pytest.raises(ValidationError, match=r"exported\.json"):
        load_potential(folder / "exported.pt2", trust=True)
    beside.write_text("{")
    with pytest.raises(IntegrityError, match="cannot be parsed"):
        load_potential(folder / "exported.pt2", trust=True)
    beside.unlink()


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_cut_off_programs(folder: Path, tmp_path: Path, name: str, share: float) -> None:
    content = (folder / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(IntegrityError, match="truncated or damaged"):
        load_potential(path, trust=True)


def test_what_is_no_program(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    save_model(path, small_potential())
    assert not isinstance(load_potential(path), ProgramPotential)
    with pytest.raises(UsageError, match="not a program"):
        load_program(path, trust=True)
    (tmp_path / "a.pt2").write_bytes(pickle.dumps(print))
    with pytest.raises(IntegrityError, match="a bare pickle"):
        load_potential(tmp_path / "a.pt2", trust=True)
    with pytest.raises(UsageError, match="no such model"):
        find_potential(tmp_path / "none.pt2")
    with pytest.raises(UsageError, match="no model here"):
        find_potential("none", home=tmp_path)


def test_an_archive_that_torch_cannot_read(folder: Path, tmp_path: Path) -> None:
    import zipfile

    path = tmp_path / "a.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/archive_format", "pt2")
    with pytest.raises(IntegrityError, match="cannot be loaded"):
        load_potential(path, trust=True)


@pytest.mark.parametrize("name", ["exported.pt2", "differentiated.ts"])
def test_it_is_simulated_by_the_engine(folder: Path, tmp_path: Path, name: str) -> None:
    potential = load_potential(folder / name, trust=True)
    demo = registry.protocol("smoke")
    protocol = demo.model_copy(update={"length": 0.4, "n_replicas": 4})
    system = SystemInput(
        key="chignolin-sample",
        bead_types=TYPES,
        starts=POS,
        sequence=registry.system("chignolin-sample").sequence,
    )
    out = tmp_path / "trajectories.zarr"
    simulate(potential, system, protocol, seed=1, out=out, model_hash=model_hash(folder / name))
    stored = read_trajectories(out, "chignolin-sample")
    assert stored.complete
    assert len(stored.coordinates) == 4
    assert float(abs(stored.coordinates[0][-1] - POS[0].numpy()).max()) > 0.01
