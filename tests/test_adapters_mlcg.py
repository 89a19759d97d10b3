"""mlcg's calling convention, with a stand-in of the same form: the package itself is not here."""

from pathlib import Path
from typing import Any

import pytest
import torch
from toy_adapters import BEADS, write_module

from cgbench.adapters import list_adapters, load
from cgbench.errors import UsageError, ValidationError
from cgbench.models import check_potential
from cgbench.testing.strategies import random_chains

POS = torch.tensor(random_chains(3, len(BEADS), 5), dtype=torch.float32)
SAMPLE = {"chignolin-sample": (BEADS, POS)}

ATOMIC_DATA = '''
from torch_geometric.data import Data
import torch


class AtomicData(Data):
    """As mlcg's: a batch of structures, and ``out`` for what models give."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.out = {}

    def __inc__(self, key, value, *args, **kwargs):
        if "index" in key:
            return self.num_nodes
        return 1 if key == "mapping_batch" else 0

    @staticmethod
    def from_points(pos, atom_types, masses=None, neighborlist=None):
        assert pos.ndim == 2 and all(mass > 0 for mass in masses)
        return AtomicData(
            pos=pos, atom_types=atom_types, masses=masses,
            n_atoms=torch.tensor([len(pos)]), neighbor_list=neighborlist or {},
        )
'''
TOPOLOGY = """
import torch


class Topology:
    def __init__(self):
        self.types, self.bonds, self.angles, self.dihedrals = [], ([], []), ([],) * 3, ([],) * 4

    def add_atom(self, type, name, resname=None, resid=None, charge=None):
        self.types.append(type)

    def add_bond(self, a, b):
        self.bonds[0].append(a), self.bonds[1].append(b)

    def add_angle(self, a, b, c):
        pass

    def add_dihedral(self, a, b, c, d):
        pass

    def neighbor_list(self, kind):
        mapping = torch.tensor(getattr(self, kind), dtype=torch.long)
        return {"tag": kind, "order": 2, "index_mapping": mapping, "cell_shifts": None,
                "rcut": None, "self_interaction": False,
                "mapping_batch": torch.zeros(mapping.shape[1], dtype=torch.long)}
"""
MODELS = '''
import torch


class Bonds(torch.nn.Module):
    """A prior: reads its pairs from the neighbour list of the batch."""

    name = "bonds"

    def __init__(self):
        super().__init__()
        self.register_buffer("k", torch.tensor(5.0))

    @staticmethod
    def neighbor_list(topology):
        return {"bonds": topology.neighbor_list("bonds")}

    def forward(self, data):
        lists = data.neighbor_list["bonds"]
        first, second = lists["index_mapping"]
        length = (data.pos[first] - data.pos[second]).norm(dim=1)
        energy = torch.zeros(len(data.n_atoms), dtype=data.pos.dtype)
        energy = energy.index_add(0, lists["mapping_batch"], self.k * (length - 3.8) ** 2)
        data.out[self.name] = {"energy": energy}
        return data


class Pairs(torch.nn.Module):
    """A network: finds its pairs from the positions."""

    name = "SchNet"

    def __init__(self):
        super().__init__()
        self.charge = torch.nn.Parameter(torch.linspace(0.1, 1.0, 64))

    @staticmethod
    def neighbor_list(data, rcut, max_num_neighbors=1000):
        raise AssertionError("asked without a reason")

    def forward(self, data):
        same = (data.batch[:, None] == data.batch[None]).triu(1)
        first, second = torch.nonzero(same, as_tuple=True)
        squared = (data.pos[first] - data.pos[second]).square().sum(1)
        charge = self.charge[data.atom_types]
        energy = charge[first] * charge[second] * torch.exp(-squared / 50)
        total = torch.zeros(len(data.n_atoms), dtype=data.pos.dtype)
        data.out[self.name] = {"energy": total.index_add(0, data.batch[first], energy)}
        return data


class GradientsOut(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model, self.name = model, model.name

    def forward(self, data):
        data.pos.requires_grad_(True)
        data = self.model(data)
        energy = data.out[self.name]["energy"]
        (gradient,) = torch.autograd.grad(energy.sum(), data.pos)
        data.out[self.name]["forces"] = -gradient
        data.pos = data.pos.detach()
        return data


class SumOut(torch.nn.Module):
    name = "SumOut"

    def __init__(self, models):
        super().__init__()
        self.models = models

    def neighbor_list(self, **kwargs):
        raise AssertionError("parts are asked one by one")

    def forward(self, data):
        for target in ("energy", "forces"):
            data.out[target] = 0.0
        for name in self.models.keys():
            data = self.models[name](data)
            for target in ("energy", "forces"):
                data.out[target] = data.out[target] + data.out[name][target]
        return data


class Silent(torch.nn.Module):
    def forward(self, data):
        return data
'''


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("mlcg")
    modules = (("data", "atomic_data", ATOMIC_DATA), ("geometry", "topology", TOPOLOGY))
    for package, module, text in (*modules, ("nn", "models", MODELS)):
        write_module(folder / "mlcg" / package, module, text)
        (folder / "mlcg" / package / "__init__.py").write_text("")
    (folder / "mlcg" / "__init__.py").write_text("")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        import mlcg.nn.models as models  # type: ignore[import-not-found, unused-ignore]

        yield models
    import sys

    for name in [name for name in sys.modules if name.partition(".")[0] == "mlcg"]:
        del sys.modules[name]


@pytest.fixture
def model(stand_in: Any, tmp_path: Path) -> Path:
    parts = {"bonds": stand_in.Bonds(), "SchNet": stand_in.Pairs()}
    parts = {name: stand_in.GradientsOut(part) for name, part in parts.items()}
    path = tmp_path / "model_with_prior.pt"
    torch.save(stand_in.SumOut(torch.nn.ModuleDict(parts)), path)
    return path


def test_a_model_with_a_prior_gives_the_sum(model: Path) -> None:
    potential = load("mlcg", model, trust=True)
    batch = torch.arange(3).repeat_interleave(len(BEADS))
    energy, forces = potential(BEADS.repeat(3), POS.reshape(-1, 3), batch)
    for index, chain in enumerate(POS):
        length = (chain[1:] - chain[:-1]).norm(dim=1)
        bonds = 5.0 * ((length - 3.8) ** 2).sum()
        charge = torch.linspace(0.1, 1.0, 64)[BEADS]
        pairs = torch.exp(-torch.pdist(chain).square() / 50)
        first, second = torch.triu_indices(len(BEADS), len(BEADS), 1)
        expected = bonds + (charge[first] * charge[second] * pairs).sum()
        assert float(energy[index]) == pytest.approx(float(expected), rel=1e-5)
    assert forces.shape == (30, 3)
    report = check_potential(potential, SAMPLE)
    assert report.passed, report.failed


def test_a_single_model_under_its_own_name(stand_in: Any, tmp_path: Path) -> None:
    torch.save(stand_in.GradientsOut(stand_in.Pairs()), tmp_path / "single.pt")
    assert check_potential(load("mlcg", tmp_path / "single.pt", trust=True), SAMPLE).passed


def test_it_says_what_it_would_run(model: Path, stand_in: Any) -> None:
    with pytest.raises(UsageError, match="code is pickled in it, and the package mlcg") as raised:
        load("mlcg", model)
    assert "--trust" in str(raised.value.fix)
    (listed,) = [one for one in list_adapters() if one.name == "mlcg"]
    assert listed.available
    assert listed.needs_trust == "always"


def test_its_identity_says_how_far_it_is_tested(model: Path) -> None:
    potential: Any = load("mlcg", model, trust=True)
    assert potential.identity.foreign_code
    assert "stand-in" in potential.identity.notes[0]


def test_what_is_no_model(stand_in: Any, tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "dictionary.pt")
    with pytest.raises(ValidationError, match="holds no model") as raised:
        load("mlcg", tmp_path / "dictionary.pt", trust=True)
    assert raised.value.found == "dict"
    (tmp_path / "text.pt").write_text("text")
    with pytest.raises(ValidationError, match="cannot be opened"):
        load("mlcg", tmp_path / "text.pt", trust=True)
    torch.save(stand_in.Silent(), tmp_path / "silent.pt")
    potential = load("mlcg", tmp_path / "silent.pt", trust=True)
    with pytest.raises(ValidationError, match="gives no energy and forces"):
        potential(BEADS, POS[0], torch.zeros_like(BEADS))


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cgbench.adapters.registry.is_importable", lambda name: False)
    torch.save({}, tmp_path / "a.pt")
    with pytest.raises(UsageError, match="would run"):
        load("mlcg", tmp_path / "a.pt")
    with pytest.raises(UsageError, match="mlcg is not installed"):
        load("mlcg", tmp_path / "a.pt", trust=True)
