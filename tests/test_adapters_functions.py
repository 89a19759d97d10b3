"""Functions of other packages, entry points, ASE calculators: trusted first, checked then."""

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_adapters import BEADS, write_module
from toy_networks import small_potential

from cgbench.adapters import AdaptedPotential, AdapterChoice, list_adapters, load, load_adapted
from cgbench.adapters.registry import adapted_hash
from cgbench.errors import UsageError, ValidationError
from cgbench.models import NetworkPotential, check_potential
from cgbench.simulation.potentials import force_field
from cgbench.testing.strategies import random_chains

POS = torch.tensor(random_chains(3, len(BEADS), 5), dtype=torch.float32)
ONE = torch.zeros_like(BEADS)
SAMPLE = {"chignolin-sample": (BEADS, POS)}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a module that is not installed."""
    monkeypatch.chdir(write_module(tmp_path))
    (tmp_path / "weights.bin").write_bytes(b"weights")
    return tmp_path


def springs(name: str, folder: Path, **options: str) -> Any:
    target = f"foreign_springs:{name}"
    return load(target, folder / "weights.bin", options, trust=True)


def test_a_function_is_not_even_imported_without_trust(folder: Path) -> None:
    with pytest.raises(UsageError, match="would run the function foreign_springs:make") as raised:
        load("foreign_springs:make", folder / "weights.bin")
    assert "--trust" in str(raised.value.fix)
    assert "foreign_springs" not in sys.modules


def test_a_function_makes_a_potential(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    choice = AdapterChoice("foreign_springs:make", {"stiffness": "20"})
    adapted = load_adapted(choice, folder / "weights.bin", trust=True, name=None)
    # What foreign code prints must not get into output for machines.
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "output of foreign code" in printed.err
    identity = adapted.identity
    assert (identity.name, identity.origin, identity.foreign_code) == (
        "foreign_springs:make", "function", True,
    )  # fmt: skip
    assert identity.options == {"stiffness": "20"}
    assert identity.version == "not stated"
    assert isinstance(adapted.potential, AdaptedPotential)
    assert adapted.potential.spec.name == "weights"
    stretch = (POS[0, 1:] - POS[0, :-1]).norm(dim=1) - 3.8
    energy, _ = adapted.potential(BEADS, POS[0], ONE)
    assert float(energy) == pytest.approx(20 * float((stretch**2).sum()), rel=1e-4)
    report = check_potential(adapted.potential, SAMPLE)
    assert report.passed, report.failed
    # The folder is searched while the module is imported, and no longer.
    assert str(folder) not in sys.path


def test_what_it_says_of_itself_is_kept(folder: Path) -> None:
    potential = springs("named", folder)
    assert (potential.spec.name, potential.spec.licence) == ("named", "MIT")
    assert potential.cutoffs == (5.0,)
    choice = AdapterChoice("foreign_springs:named")
    renamed = load_adapted(choice, folder / "weights.bin", trust=True, name="mine").potential
    assert renamed.spec.name == "mine"


def test_a_potential_of_our_own_stays_what_it_is(folder: Path) -> None:
    text = "from cgbench.models import load_model\n\ndef make(path):\n    return load_model(path)\n"
    write_module(folder, "wraps_ours", text)
    from cgbench.models import save_model

    save_model(folder / "model.pt", small_potential())
    potential = load("wraps_ours:make", folder / "model.pt", trust=True)
    assert isinstance(potential, NetworkPotential)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("nothing", ValidationError, "does not return a potential"),
        ("fails", ValidationError, "failed on"),
        ("NUMBER", ValidationError, "not a function"),
        ("no_such", ValidationError, "cannot be imported"),
        ("make.no_such", ValidationError, "cannot be imported"),
        ("", ValidationError, "not the name of a function"),
    ],
)
def test_functions_that_make_none(
    folder: Path, name: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        springs(name, folder)


def test_modules_that_cannot_be_imported(folder: Path) -> None:
    with pytest.raises(ValidationError, match="cannot be imported") as raised:
        load("no_such_module:make", folder / "weights.bin", trust=True)
    assert "install its package" in str(raised.value.fix)
    write_module(folder, "breaks", "raise KeyError('x')\n")
    with pytest.raises(ValidationError, match="cannot be imported") as raised:
        load("breaks:make", folder / "weights.bin", trust=True)
    assert "KeyError" in str(raised.value.found)
    with pytest.raises(UsageError, match="no such model"):
        load("foreign_springs:make", folder / "none", trust=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("of_double", "another precision than the positions"),
        ("of_one_bead", "wrong shapes from the adapted model"),
        ("of_energy", "does not return two tensors"),
        ("failing", "the adapted model failed on 10 beads"),
    ],
)
def test_models_that_break_the_contract(folder: Path, name: str, message: str) -> None:
    potential = springs(name, folder)
    with pytest.raises(ValidationError, match=message) as raised:
        potential(BEADS, POS[0], ONE)
    assert raised.value.expected is not None
    assert raised.value.found is not None
    report = check_potential(potential, SAMPLE)
    assert [check.name for check in report.failed] == ["interface"]
    with pytest.raises(ValidationError):
        force_field(potential, BEADS)(POS)


def test_the_hash_names_all_that_decides_what_is_computed(folder: Path) -> None:
    file = folder / "weights.bin"
    hashes = set()
    for target, options, content in (
        ("foreign_springs:make", {}, b"weights"),
        ("foreign_springs:make", {"stiffness": "3"}, b"weights"),
        ("foreign_springs:make", {}, b"other"),
        ("foreign_springs:named", {}, b"other"),
    ):
        file.write_bytes(content)
        choice = AdapterChoice(target, options)
        identity = load_adapted(choice, file, trust=True, name=None).identity
        hashes.add(adapted_hash(file, choice, identity))
        assert adapted_hash(file, choice, identity) in hashes
    assert len(hashes) == 4
    # An option that names a file stands for what is in it.
    (folder / "prior").write_text("one")
    choice = AdapterChoice("x:y", {"prior": str(folder / "prior"), "settings": "not a file"})
    before = adapted_hash(file, choice, identity)
    (folder / "prior").write_text("two")
    assert adapted_hash(file, choice, identity) != before


# Entry points


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, points: str) -> None:
    facts = folder / "toysprings-1.5.dist-info"
    facts.mkdir(exist_ok=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: toysprings\nVersion: 1.5\n")
    (facts / "entry_points.txt").write_text(f"[cgbench.potentials]\n{points}\n")
    (facts / "RECORD").write_text("foreign_springs.py,,\n")
    write_module(folder)
    monkeypatch.syspath_prepend(folder)
    importlib.invalidate_caches()


def test_adapters_of_other_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "springs = foreign_springs:make")
    listed = {one.name: one for one in list_adapters()}
    assert listed["springs"].version == "toysprings 1.5"
    assert listed["springs"].available
    assert listed["springs"].needs_trust == "always"
    assert listed["torchmdnet"].needs_trust == "for foreign models"
    assert "foreign_springs" not in sys.modules
    with pytest.raises(UsageError, match=r"foreign_springs:make of toysprings 1\.5"):
        load("springs", tmp_path)
    choice = AdapterChoice("springs", {"stiffness": "4"})
    adapted = load_adapted(choice, tmp_path, trust=True, name=None)
    identity = adapted.identity
    assert (identity.name, identity.version, identity.origin) == ("springs", "1.5", "entry point")
    assert check_potential(adapted.potential, SAMPLE).passed
    with pytest.raises(UsageError, match="no such adapter") as raised:
        load("spring", tmp_path)
    assert "springs" in str(raised.value.expected)


@pytest.mark.parametrize(
    ("points", "note"),
    [
        ("broken = no_such_package.module:make", "does not find no_such_package"),
        ("broken = foreign_springs", "names no function"),
        ("torchmdnet = foreign_springs:make", "an adapter of cgbench has the same name"),
    ],
)
def test_broken_ones_are_notes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, points: str, note: str
) -> None:
    install(tmp_path, monkeypatch, points)
    name = points.partition(" ")[0]
    (found,) = [one for one in list_adapters() if (one.name, one.origin) == (name, "entry point")]
    assert not found.available
    assert note in str(found.note)
    if name == "broken":
        with pytest.raises(ValidationError, match="left out"):
            load(name, tmp_path, trust=True)


# ASE

CALCULATORS = """
from ase.calculators.calculator import Calculator, all_changes
import numpy as np


class Springs(Calculator):
    implemented_properties = ["energy", "forces"]

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        assert not self.atoms.pbc.any()
        assert abs(self.atoms.get_masses() - 12.0).max() < 1e-9
        x = self.atoms.positions
        k = 0.5 + 0.01 * self.atoms.numbers
        bond = x[1:] - x[:-1]
        length = np.linalg.norm(bond, axis=1)
        constant = k[1:] + k[:-1]
        pull = (2 * constant * (length - 3.8) / length)[:, None] * bond
        forces = np.zeros_like(x)
        forces[:-1] += pull
        forces[1:] -= pull
        energy = float((constant * (length - 3.8) ** 2).sum())
        self.results = {"energy": energy, "forces": forces}


def make(path):
    return Springs()


def nothing(path):
    return 5


def fails(path):
    raise ValueError("no")
"""


def calculator(folder: Path, name: str = "make", **options: str) -> Any:
    write_module(folder, "ase_springs", CALCULATORS)
    options = {"calculator": f"ase_springs:{name}", **options}
    return load("ase", folder / "weights.bin", options, trust=True)


def test_an_ase_calculator_as_a_potential(folder: Path) -> None:
    pytest.importorskip("ase")
    potential = calculator(folder)
    energy, forces = potential(
        BEADS.repeat(3), POS.reshape(-1, 3), torch.arange(3).repeat_interleave(10)
    )
    # 1 eV is 23.0605 kcal/mol.
    chain = POS[1].double().numpy()
    length = np.linalg.norm(chain[1:] - chain[:-1], axis=1)
    stiffness = 0.5 + 0.01 * BEADS.numpy()
    expected = ((stiffness[1:] + stiffness[:-1]) * (length - 3.8) ** 2).sum() * 23.060548
    assert float(energy[1]) == pytest.approx(expected, rel=1e-5)
    report = check_potential(potential, SAMPLE)
    assert report.passed, report.failed
    assert potential.identity.runs[0].startswith("ase 3.")
    assert potential.identity.foreign_code
    assert forces.dtype == torch.float32


def test_calculators_that_are_none(folder: Path) -> None:
    pytest.importorskip("ase")
    with pytest.raises(UsageError, match="which calculator"):
        load("ase", folder / "weights.bin", trust=True)
    with pytest.raises(UsageError, match="would run the function ase_springs:make and ase 3"):
        load("ase", folder / "weights.bin", {"calculator": "ase_springs:make"})
    with pytest.raises(ValidationError, match="does not return a calculator"):
        calculator(folder, "nothing")
    with pytest.raises(ValidationError, match="failed on"):
        calculator(folder, "fails")
    with pytest.raises(UsageError, match="no such option"):
        calculator(folder, box="3")


def test_a_potential_as_an_ase_calculator(folder: Path) -> None:
    ase = pytest.importorskip("ase")
    from cgbench.adapters.ase import CgbenchCalculator

    ours = small_potential(dtype=torch.float64)
    atoms = ase.Atoms(numbers=BEADS.numpy(), positions=POS[0].double().numpy())
    atoms.calc = CgbenchCalculator(ours)
    energy, forces = ours(BEADS, POS[0].double(), ONE)
    assert atoms.get_potential_energy() == pytest.approx(float(energy) / 23.060548, rel=1e-6)
    np.testing.assert_allclose(atoms.get_forces(), forces.numpy() / 23.060548, rtol=1e-6)
    # Forces are the gradient as ASE itself measures it.
    step = 1e-4
    moved = [atoms.copy() for _ in range(2)]
    for sign, one in zip((1, -1), moved, strict=True):
        one.calc = CgbenchCalculator(ours)
        one.positions[3, 1] += sign * step
    slope = (moved[0].get_potential_energy() - moved[1].get_potential_energy()) / (2 * step)
    assert atoms.get_forces()[3, 1] == pytest.approx(-slope, abs=1e-6)
    # Bead types may be given, or stand in an array of the atoms.
    carbon = ase.Atoms("C10", positions=POS[0].double().numpy())
    carbon.calc = CgbenchCalculator(ours, BEADS.tolist())
    assert carbon.get_potential_energy() == atoms.get_potential_energy()
    carbon.calc = CgbenchCalculator(ours)
    carbon.set_array("bead_types", BEADS.numpy())
    assert carbon.get_potential_energy() == atoms.get_potential_energy()
    carbon.set_cell([30, 30, 30])
    carbon.pbc = True
    with pytest.raises(ValidationError, match="cannot be asked about"):
        carbon.get_potential_energy()
    carbon.pbc = False
    carbon.calc = CgbenchCalculator(ours, [4, 4])
    with pytest.raises(ValidationError, match="cannot be asked about") as raised:
        carbon.get_potential_energy()
    assert raised.value.expected == "2 beads without a periodic box"


def test_there_and_back_again(folder: Path) -> None:
    """A potential through ASE and back is itself."""
    pytest.importorskip("ase")
    text = (
        "from cgbench.adapters.ase import CgbenchCalculator\n"
        "from cgbench.models import load_model\nimport torch\n\ndef make(path):\n"
        "    return CgbenchCalculator(load_model(path, dtype=torch.float64))\n"
    )
    write_module(folder, "there", text)
    from cgbench.models import load_model, save_model

    save_model(folder / "model.pt", small_potential())
    back = load("ase", folder / "model.pt", {"calculator": "there:make"}, trust=True)
    ours = load_model(folder / "model.pt", dtype=torch.float64)
    chain = POS[0].double()
    torch.testing.assert_close(back(BEADS, chain, ONE), ours(BEADS, chain, ONE))
