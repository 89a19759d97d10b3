"""The Gō model: against a plain implementation, its own minimum, and broken files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cgbench import registry
from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.models import (
    GoChain,
    GoConstants,
    GoModel,
    GoModelSettings,
    NetworkPotential,
    PotentialSpec,
    check_potential,
    load_model,
    model_hash,
    save_model,
)
from cgbench.models.go_terms import compiled_or_matrices, pairs_by_matrices
from cgbench.simulation import choose_engine
from cgbench.testing.strategies import chain_from_internal, random_chains

SEQUENCE = "YYDPETGTWY"
TYPES = registry.bead_vocabulary().types(SEQUENCE)


def compact(n_beads: int, seed: int = 0) -> np.ndarray:
    """A helix with some noise: a native structure with contacts."""
    generator = np.random.default_rng(seed)
    return chain_from_internal(
        generator.normal(3.8, 0.02, (1, n_beads - 1)),
        np.radians(generator.normal(91.0, 4.0, (1, n_beads - 2))),
        np.radians(generator.normal(50.0, 8.0, (1, n_beads - 3))),
    )[0]


def model(native: np.ndarray, scale: float = 0.7, **constants: object) -> GoModel:
    n_beads = len(native)
    chain = GoChain(name="chain", bead_types=tuple((TYPES * 10)[:n_beads]))
    settings = GoModelSettings(constants=GoConstants(**constants), chains=(chain,))
    return GoModel(settings, [native], [scale])


def potential(native: np.ndarray) -> NetworkPotential:
    return NetworkPotential(model(native), None, PotentialSpec(name="go-model/test"))


def angle(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> float:
    u, v = a - b, c - b
    return float(np.arccos(u @ v / np.linalg.norm(u) / np.linalg.norm(v)))


def dihedral(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> float:
    """By projecting on the plane across the middle bond."""
    axis = (c - b) / np.linalg.norm(c - b)
    first = (a - b) - ((a - b) @ axis) * axis
    last = (d - c) - ((d - c) @ axis) * axis
    return float(np.arctan2(np.cross(axis, first) @ last, first @ last))


def plain_energy(pos: np.ndarray, native: np.ndarray, scale: float) -> float:
    """The formula of the paper, term by term."""
    total, n = 0.0, len(pos)
    for i in range(n - 1):
        length = np.linalg.norm(pos[i + 1] - pos[i])
        total += 100.0 * (length - np.linalg.norm(native[i + 1] - native[i])) ** 2
    for i in range(n - 2):
        total += 20.0 * (angle(*pos[i : i + 3]) - angle(*native[i : i + 3])) ** 2
    for i in range(n - 3):
        turn = dihedral(*pos[i : i + 4]) - dihedral(*native[i : i + 4])
        total += (1.0 - np.cos(turn)) + 0.5 * (1.0 - np.cos(3.0 * turn))
    for i in range(n):
        for j in range(i + 4, n):
            r, r0 = np.linalg.norm(pos[i] - pos[j]), np.linalg.norm(native[i] - native[j])
            total += 5 * (r0 / r) ** 12 - 6 * (r0 / r) ** 10 if r0 < 8.0 else (4.0 / r) ** 12
    return scale * total


@given(seed=st.integers(0, 10_000), n_beads=st.integers(5, 24))
def test_energy_is_the_formula_and_forces_are_its_gradient(seed: int, n_beads: int) -> None:
    native = compact(n_beads, seed).astype(np.float32).astype(np.float64)
    pos = native + np.random.default_rng(seed).normal(0.0, 0.3, (2, n_beads, 3))
    go, types = model(native).double(), torch.tensor((TYPES * 10)[:n_beads])
    energy, forces = go.energy_forces_chains(types, torch.from_numpy(pos))
    expected = [plain_energy(one, native, float(go.scale[0])) for one in pos]
    assert energy.numpy() == pytest.approx(expected, rel=1e-9, abs=1e-9)
    direction = np.random.default_rng(seed + 1).normal(size=pos.shape)
    up, down = (
        go.energy_forces_chains(types, torch.from_numpy(pos + sign * 1e-6 * direction))[0]
        for sign in (1.0, -1.0)
    )
    slope = ((up - down) / 2e-6).numpy()
    assert slope == pytest.approx(-(forces.numpy() * direction).sum((1, 2)), rel=1e-5, abs=1e-4)


@given(
    seed=st.integers(0, 10_000),
    n_beads=st.integers(5, 90),
    size=st.floats(0.05, 50.0),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_compiled_pairs_are_those_of_matrices(
    seed: int, n_beads: int, size: float, dtype: torch.dtype
) -> None:
    go = model(compact(n_beads, seed)).to(dtype)
    types = torch.tensor((TYPES * 10)[:n_beads])
    tables = go.tables(types)
    # From chains in a heap to chains out of reach.
    pos = torch.from_numpy(size * random_chains(3, n_beads, seed)).to(dtype)
    found, expected = compiled_or_matrices(pos, tables), pairs_by_matrices(pos, tables)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-11
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=tolerance, atol=tolerance * float(other.abs().max()))


def test_the_native_structure_is_the_minimum() -> None:
    native = compact(20).astype(np.float32).astype(np.float64)
    go = model(native, repulsion=0.0).double()
    types = torch.tensor((TYPES * 10)[:20])
    energy, forces = go.energy_forces_chains(types, torch.from_numpy(native)[None])
    apart = np.linalg.norm(native[:, None] - native[None], axis=2)
    n_pairs = int((np.triu(apart < 8.0, k=4)).sum())
    assert n_pairs > 10
    assert float(energy) == pytest.approx(-float(go.scale[0]) * n_pairs)
    assert float(forces.abs().max()) < 1e-9


def test_the_mirror_image_is_worse_by_its_dihedrals() -> None:
    native = compact(12)
    go, types = model(native).double(), torch.tensor((TYPES * 10)[:12])
    both = torch.from_numpy(np.stack([native, native * [1.0, 1.0, -1.0]]))
    energy = go.energy_forces_chains(types, both)[0]
    turns = 2.0 * np.array([dihedral(*native[i : i + 4]) for i in range(9)])
    expected = 0.7 * ((1 - np.cos(turns)) + 0.5 * (1 - np.cos(3 * turns))).sum()
    assert float(energy[1] - energy[0]) == pytest.approx(expected, rel=1e-5)


def test_a_piece_of_a_chain_has_its_own_terms_and_another_chain_none() -> None:
    native = compact(10)
    go = model(native).double()
    piece = torch.tensor(TYPES[2:9])
    energy, _ = go.energy_forces_chains(piece, torch.from_numpy(native[2:9])[None])
    rounded = native.astype(np.float32).astype(np.float64)
    assert float(energy) == pytest.approx(
        plain_energy(native[2:9], rounded[2:9], float(go.scale[0])), abs=1e-6
    )
    with pytest.raises(ValidationError, match="built from only"):
        go.energy_forces_chains(torch.tensor([2] * 10), torch.from_numpy(native)[None])
    with pytest.raises(ValidationError, match="its chains do not have"):
        potential(native).check_types(torch.tensor([19, 20]))


def test_broken_positions_stay_in_their_replica() -> None:
    native = compact(10)
    pos = torch.tensor(np.stack([native, native]), dtype=torch.float32)
    expected = potential(native).chains(torch.tensor(TYPES), pos)
    pos[0, 3, 1] = float("nan")
    found = potential(native).chains(torch.tensor(TYPES), pos)
    assert torch.isnan(found.network_energy[0])
    assert torch.equal(found.network_energy[1], expected.network_energy[1])
    assert torch.equal(found.forces[1], expected.forces[1])


def test_it_conforms_alone_and_with_other_chains() -> None:
    sizes = (10, 28)
    chains = tuple(
        GoChain(name=f"chain-{n}", bead_types=tuple(reversed((TYPES * 10)[:n]))) for n in sizes
    )
    natives = [compact(n) for n in sizes]
    network = GoModel(GoModelSettings(chains=chains), natives, [0.7, 0.8])
    whole = NetworkPotential(network, None, PotentialSpec(name="go-model/two"))
    noise = torch.from_numpy(np.random.default_rng(0).normal(0, 0.2, (4, 28, 3)))
    systems = {
        chain.name: (
            torch.tensor(chain.bead_types),
            torch.from_numpy(native) + noise[:, : len(native)],
        )
        for chain, native in zip(chains, natives, strict=True)
    }
    report = check_potential(whole, systems)
    report.require("a Gō model")
    assert len(report.checks) == 15


def test_the_file_gives_back_the_model(tmp_path: Path) -> None:
    path, native = tmp_path / "model.pt", compact(10)
    save_model(path, potential(native))
    first = path.read_bytes()
    save_model(path, potential(native))
    assert path.read_bytes() == first
    loaded = load_model(path)
    pos = torch.tensor(native, dtype=torch.float32)[None] + 0.1
    types = torch.tensor(TYPES)
    assert torch.equal(
        loaded.chains(types, pos).forces, potential(native).chains(types, pos).forces
    )
    save_model(tmp_path / "again.pt", loaded)
    assert model_hash(tmp_path / "again.pt") == model_hash(path)
    other = NetworkPotential(model(native, 0.71), None, loaded.spec)
    save_model(path, other)
    assert model_hash(path) != model_hash(tmp_path / "again.pt")


def changed(path: Path, **network: object) -> Path:
    content = torch.load(path, weights_only=True)
    for key, value in network.items():
        if key == "version":
            content[key] = value
        else:
            content["network"][key] = value
    torch.save(content, path)
    return path


def test_files_that_are_wrong_are_refused(tmp_path: Path) -> None:
    path, native = tmp_path / "model.pt", compact(10)

    def fresh() -> Path:
        save_model(path, potential(native))
        return path

    with pytest.raises(ValidationError, match="unknown kind of network") as error:
        load_model(changed(fresh(), kind="oracle"))
    assert "go-model" in str(error.value.expected)
    assert "pair-spline" in str(error.value.expected)
    with pytest.raises(IntegrityError, match="not those of"):
        load_model(changed(fresh(), version=1))
    with pytest.raises(IntegrityError, match="unknown version"):
        load_model(changed(fresh(), version=3))
    state = torch.load(fresh(), weights_only=True)["network"]["state"]
    with pytest.raises(ValidationError, match="out of range"):
        load_model(changed(fresh(), state={**state, "scale": torch.tensor([-1.0])}))
    with pytest.raises(ValidationError, match="lie on each other"):
        load_model(changed(fresh(), state={**state, "native_0": torch.zeros(10, 3)}))
    with pytest.raises(ValidationError, match="does not fit"):
        load_model(changed(fresh(), state={**state, "native_0": torch.zeros(9, 3)}))
    settings = json.loads(torch.load(fresh(), weights_only=True)["network"]["settings"])
    settings["chains"] *= 2
    with pytest.raises(ValidationError, match="same sequence"):
        load_model(changed(fresh(), settings=json.dumps(settings)))


def test_simulation_runs_it_in_torch_and_says_why() -> None:
    native, types = compact(10), torch.tensor(TYPES)
    engine = choose_engine(potential(native), types, torch.float32)
    assert engine.name == "torch"
    assert "no graph network" in engine.reason
    with pytest.raises(UsageError, match="no graph network"):
        choose_engine(potential(native), types, torch.float32, "fused")
