"""The graph network against TorchMD-Net, a slow formula and automatic differentiation."""

import importlib.util
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from toy_networks import SMALL, slow_energy, small_network

from cgbench.models import GraphNetwork, GraphNetworkSettings, Pairs
from cgbench.models.pairs import all_chain_pairs, batch_pairs_within, chain_pairs_within
from cgbench.testing.strategies import chains, random_chains, rotations, translations

TESTS = Path(__file__).parent
GOLDEN = TESTS / "golden" / "graph_network_torchmdnet.npz"


def load_peer() -> ModuleType:
    path = TESTS.parent / "benchmarks" / "peers" / "graph_network_torchmdnet.py"
    spec = importlib.util.spec_from_file_location("graph_network_torchmdnet", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up.
    import sys

    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


PEER = load_peer()


@pytest.fixture(scope="module")
def golden() -> dict[str, NDArray[Any]]:
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


def random_case(seed: int, sizes: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
    generator = np.random.default_rng(seed)
    pos = [random_chains(1, size, seed + size)[0] for size in sizes]
    types = generator.integers(0, SMALL.max_bead_type, sum(sizes))
    batch = np.repeat(np.arange(len(sizes)), sizes)
    return torch.tensor(types), torch.tensor(np.concatenate(pos)), torch.tensor(batch)


def test_reference_settings_have_the_published_number_of_parameters() -> None:
    assert GraphNetwork().n_parameters == 294_565


@pytest.mark.parametrize(("precision", "bound"), [("float32", 1e-5), ("float64", 1e-10)])
def test_made_up_chains_match_torchmdnet(
    golden: dict[str, NDArray[Any]], precision: str, bound: float
) -> None:
    case = PEER.made_up_case()
    energy, forces = PEER.evaluate_cgbench(case, precision)
    expected = golden[f"made-up/{precision}/forces"]
    assert np.sqrt(np.mean(expected**2)) > 0.1
    assert PEER.difference(energy, golden[f"made-up/{precision}/energies"]) <= bound
    assert PEER.difference(forces, expected) <= bound


@pytest.mark.data
@pytest.mark.parametrize("key", ["cln", "proteing", "lambda"])
@pytest.mark.parametrize(("precision", "bound"), [("float32", 1e-5), ("float64", 1e-10)])
def test_published_frames_match_torchmdnet(
    published_dir: Path, golden: dict[str, NDArray[Any]], key: str, precision: str, bound: float
) -> None:
    case = PEER.published_case(published_dir, key)
    energy, forces = PEER.evaluate_cgbench(case, precision)
    assert PEER.difference(energy, golden[f"{key}/{precision}/energies"]) <= bound
    assert PEER.difference(forces, golden[f"{key}/{precision}/forces"]) <= bound


@pytest.mark.data
def test_peer_bead_types_are_those_of_the_registry(published_dir: Path) -> None:
    from cgbench.registry import system

    for key, name in (("cln", "chignolin"), ("lambda", "lambda")):
        case = PEER.published_case(published_dir, key)
        types = system(name).bead_types
        assert tuple(case.bead_types[: len(types)]) == types


@pytest.mark.parametrize("lower", [0.0, 3.0])
def test_slow_formula(lower: float) -> None:
    network = small_network(3, SMALL.model_copy(update={"cutoff_lower": lower}))
    types, pos, batch = random_case(5, (7, 12))
    pos[3] = pos[2] + torch.tensor([1.2, 0.0, 0.0])
    energy = network.energy(types, pos, batch, 2).detach()
    for system in range(2):
        chosen = batch == system
        expected, _ = slow_energy(network, types[chosen].tolist(), pos[chosen].numpy())
        assert math.isclose(float(energy[system]), expected, rel_tol=1e-12)


@given(chain=chains(max_beads=24, dtype=np.float64), seed=st.integers(0, 100))
@settings(max_examples=25)
def test_closed_form_forces_are_those_of_autograd(chain: NDArray[np.float64], seed: int) -> None:
    network = small_network(seed)
    types = torch.arange(chain.shape[1]) % SMALL.max_bead_type
    pos = torch.tensor(chain, requires_grad=True)
    energy = network.energy_chains(types, pos)
    (gradient,) = torch.autograd.grad(energy.sum(), pos)
    found_energy, forces = network.energy_forces_chains(types, pos)
    torch.testing.assert_close(found_energy, energy, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(forces, -gradient, rtol=1e-10, atol=1e-10)


def test_energy_and_forces_pass_gradcheck() -> None:
    network = small_network(1)
    types, pos, batch = random_case(2, (6, 4))
    pos.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: network.energy(types, x, batch, 2), (pos,))
    assert torch.autograd.gradgradcheck(lambda x: network.energy(types, x, batch, 2), (pos,))
    assert torch.autograd.gradcheck(lambda x: network.energy_forces(types, x, batch, 2), (pos,))


@given(
    chain=chains(min_beads=4, max_beads=20, dtype=np.float64),
    rotation=rotations(),
    shift=translations(),
)
@settings(max_examples=25)
def test_invariances(
    chain: NDArray[np.float64], rotation: NDArray[np.float64], shift: NDArray[np.float64]
) -> None:
    network = small_network(2)
    types = torch.arange(chain.shape[1]) % 5
    energy, forces = network.energy_forces_chains(types, torch.tensor(chain))
    moved = torch.tensor(chain @ rotation.T + shift)
    moved_energy, moved_forces = network.energy_forces_chains(types, moved)
    mirrored = torch.tensor(chain * [1.0, 1.0, -1.0])
    torch.testing.assert_close(moved_energy, energy, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(moved_forces, forces @ torch.tensor(rotation.T), rtol=0, atol=1e-8)
    # It sees distances only: mirror images are one to it.
    torch.testing.assert_close(network.energy_chains(types, mirrored), energy)


@given(seed=st.integers(0, 1000), sizes=st.lists(st.integers(1, 30), min_size=1, max_size=5))
@settings(max_examples=30)
def test_pair_lists_against_all_pairs(seed: int, sizes: list[int]) -> None:
    generator = np.random.default_rng(seed)
    batch = torch.tensor(generator.permutation(np.repeat(np.arange(len(sizes)), sizes)))
    pos = torch.tensor(generator.uniform(0, 25, (sum(sizes), 3)))
    found = batch_pairs_within(pos, batch, 3.0, 12.0)
    expected = {
        (i, j)
        for i in range(len(batch))
        for j in range(i)
        if batch[i] == batch[j] and 3.0 < float(torch.dist(pos[i], pos[j])) < 12.0
    }
    pairs = zip(found.first.tolist(), found.second.tolist(), strict=True)
    listed = [(max(pair), min(pair)) for pair in pairs]
    assert len(listed) == len(set(listed))
    assert set(listed) == expected


def test_more_than_32_neighbours_are_kept() -> None:
    pos = torch.tensor(np.random.default_rng(0).uniform(0, 6, (60, 3)))
    pairs = chain_pairs_within(pos[None], 0.1, 12.0)
    neighbours = torch.bincount(torch.cat([pairs.first, pairs.second]))
    assert int(neighbours.min()) == 59


def test_dense_and_sparse_pairs_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    network = small_network(4)
    types = torch.arange(14)
    pos = torch.tensor(random_chains(5, 14, 8))
    dense = network.energy_forces_chains(types, pos)
    assert len(all_chain_pairs(5, 14, pos.device).first) == 5 * 91
    monkeypatch.setattr("cgbench.models.graph_network.DENSE_BEADS", 0)
    for one, other in zip(network.energy_forces_chains(types, pos), dense, strict=True):
        torch.testing.assert_close(one, other)


def test_chains_in_blocks_are_the_chains_alone_and_the_flat_batch() -> None:
    network = small_network(4)
    types = torch.arange(22) % 9
    pos = torch.tensor(random_chains(43, 22, 8))
    batch = torch.arange(43).repeat_interleave(22)
    flat_energy, flat = network.energy_forces(types.repeat(43), pos.reshape(-1, 3), batch, 43)
    with torch.no_grad():
        energy, forces = network.energy_forces_chains(types, pos)
        alone, alone_forces = network.energy_forces_chains(types, pos[40:41])
    torch.testing.assert_close(energy, flat_energy, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(forces, flat.reshape(43, 22, 3), rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(alone, energy[40:41], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(alone_forces, forces[40:41], rtol=1e-11, atol=1e-11)


def test_given_pairs_are_used() -> None:
    network = small_network(4)
    types, pos, batch = random_case(1, (6,))
    every = all_chain_pairs(1, 6, pos.device)
    torch.testing.assert_close(
        network.energy(types, pos, batch, 1, every), network.energy(types, pos, batch, 1)
    )
    none = Pairs(every.first[:0], every.second[:0])
    without = network.energy(types, pos, batch, 1, none)
    assert not torch.allclose(without, network.energy(types, pos, batch, 1, every))


@pytest.mark.parametrize("lower", [0.0, 3.0])
@pytest.mark.parametrize("n_beads", [10, 24])
def test_coincident_and_far_beads_are_finite(lower: float, n_beads: int) -> None:
    network = small_network(0, SMALL.model_copy(update={"cutoff_lower": lower}), torch.float32)
    types = torch.ones(n_beads, dtype=torch.int64)
    line = torch.arange(n_beads * 3.0).reshape(1, n_beads, 3)
    for pos in (torch.zeros(1, n_beads, 3), 1e-30 * line, 1e6 * line, 1e15 * line):
        leaf = pos.clone().requires_grad_()
        energy = network.energy_chains(types, leaf)
        (gradient,) = torch.autograd.grad(energy.sum(), leaf)
        energy, forces = network.energy_forces_chains(types, pos)
        for values in (gradient, energy, forces):
            assert bool(torch.isfinite(values).all())


@pytest.mark.parametrize("n_beads", [10, 24])
@pytest.mark.parametrize("tabulated", [False, True])
def test_a_broken_replica_breaks_no_other(n_beads: int, tabulated: bool) -> None:
    network = small_network(0)
    types = torch.arange(n_beads) % 7
    pos = torch.tensor(random_chains(3, n_beads, 1))
    with torch.no_grad():
        table = network.table() if tabulated else None
        energy, forces = network.energy_forces_chains(types, pos, table)
        pos[1, 4, 2] = math.nan
        broken_energy, broken = network.energy_forces_chains(types, pos, table)
    assert broken_energy.isnan().tolist() == [False, True, False]
    assert bool(broken[1].isnan().any())
    torch.testing.assert_close(broken[[0, 2]], forces[[0, 2]])
    torch.testing.assert_close(broken_energy[[0, 2]], energy[[0, 2]])


@pytest.mark.parametrize("cutoff", [3.0, 12.0])
def test_energy_and_force_vanish_smoothly_at_both_cutoffs(cutoff: float) -> None:
    network = small_network(6)
    types = torch.tensor([1, 2])
    offsets = torch.tensor([-1e-3, -1e-5, -1e-7, 0.0, 1e-7, 1e-5, 1e-3], dtype=torch.float64)
    pos = torch.zeros(len(offsets), 2, 3, dtype=torch.float64)
    pos[:, 1, 0] = cutoff + offsets
    energy, forces = network.energy_forces_chains(types, pos)
    apart = network.energy_chains(types, 100.0 * torch.tensor([[[0.0] * 3, [1.0] * 3]]).double())
    # Quadratic in the energy, linear in the force.
    assert bool(((energy - apart).abs() <= 50 * offsets**2 + 1e-14).all())
    assert bool((forces.abs().amax((1, 2)) <= 100 * offsets.abs() + 1e-13).all())
    outside = offsets * (1 if cutoff == 12.0 else -1) >= 0
    assert bool((forces[outside] == 0).all())
    assert bool((forces[~outside].abs().amax((1, 2)) > 0).all())


def test_single_bead_and_beads_out_of_reach() -> None:
    network = small_network(0)
    expected, _ = slow_energy(network, [3], np.zeros((1, 3)))
    alone = torch.zeros(2, 1, 3, dtype=torch.float64)
    apart = torch.zeros(2, 20, 3, dtype=torch.float64)
    apart[:, :, 1] = 13.0 * torch.arange(20)
    with torch.no_grad():
        for pos in (alone, apart):
            n_beads = pos.shape[1]
            for table in (None, network.table()):
                types = torch.full((n_beads,), 3)
                energy, forces = network.energy_forces_chains(types, pos, table)
                assert energy.tolist() == pytest.approx([n_beads * expected] * 2)
                assert forces.abs().max() == 0


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="cutoff_lower must be below"):
        GraphNetworkSettings(cutoff_lower=12.0)
    with pytest.raises(ValueError, match="num_layers"):
        GraphNetworkSettings(num_layers=10**9)
