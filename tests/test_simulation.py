"""Whole simulations: batches, failures and refusals."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_simulation import (
    KEY,
    N_BEADS,
    N_FRAMES,
    SEQUENCE,
    Faulty,
    FlatSprings,
    SpringChain,
    assert_same,
    spoil,
    toy_network,
    toy_protocol,
    toy_run,
    toy_system,
)

from cgbench import registry
from cgbench.errors import UsageError, ValidationError
from cgbench.models import ChainResult, NetworkPotential
from cgbench.simulation import SystemInput, adapt, largest_stable_step, simulate
from cgbench.store import TrajectorySet, read_trajectories


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> TrajectorySet:
    """An undisturbed run."""
    return toy_run(SpringChain(), tmp_path_factory.mktemp("reference") / "trajectories.zarr")


def test_what_a_run_leaves_behind(tmp_path: Path) -> None:
    out = tmp_path / "trajectories.zarr"
    calls: list[tuple[str, float, float]] = []
    potential = SpringChain()
    outcome = simulate(
        potential,
        toy_system(),
        toy_protocol(),
        seed=1,
        out=out,
        dtype=torch.float64,
        progress=lambda *call: calls.append(call),
    )
    assert outcome.status == "ok"
    assert outcome.alive_until == (N_FRAMES,) * 4
    assert (outcome.steps, outcome.n_output_frames) == (5 * N_FRAMES, N_FRAMES)
    # One evaluation a step, and one before the first.
    assert outcome.energy_evaluations == potential.calls == 5 * N_FRAMES + 1
    assert outcome.steps_per_second == pytest.approx(outcome.steps / outcome.wall_time)
    assert outcome.ns_per_day == pytest.approx(outcome.steps_per_second * 0.004 * 86.4)
    assert calls[-1][1:] == (40, 40)
    assert calls[-1][0].startswith(f"simulate {KEY} (")
    assert not list(tmp_path.glob("*checkpoint*"))

    frames = read_trajectories(out, KEY)
    assert [array.shape for array in frames.coordinates] == [(N_FRAMES, N_BEADS, 3)] * 4
    assert frames.frame_interval == pytest.approx(0.02)
    assert frames.temperature == 350.0
    # Stored energies are those of the stored structures.
    assert frames.network_energy is not None
    assert frames.prior_energy is not None
    for coordinates, network, prior in zip(
        frames.coordinates, frames.network_energy, frames.prior_energy, strict=True
    ):
        result = potential.chains(torch.empty(0), torch.from_numpy(coordinates).double())
        np.testing.assert_allclose(network, result.network_energy, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(prior, result.prior_energy, rtol=1e-4, atol=1e-4)


def test_replicas_take_the_start_frames_in_turn(tmp_path: Path) -> None:
    # So cold and slow that frames still show where they started.
    protocol = toy_protocol(temperature=1e-9, bead_mass=1e9)
    frames = toy_run(SpringChain(), tmp_path / "trajectories.zarr", protocol=protocol)
    starts = toy_system().starts.numpy()
    for replica, coordinates in enumerate(frames.coordinates):
        expected = starts[replica % 3] - starts[replica % 3][N_BEADS // 2]
        np.testing.assert_allclose(coordinates[0], expected, atol=1e-4)


def test_single_replicas_and_shards_are_bitwise_the_batch(
    tmp_path: Path, reference: TrajectorySet
) -> None:
    for replicas in ([2], [0, 3], [3, 1, 2]):
        out = tmp_path / "".join(map(str, replicas)) / "trajectories.zarr"
        found = toy_run(SpringChain(), out, replicas=replicas)
        for place, replica in enumerate(replicas):
            np.testing.assert_array_equal(found.coordinates[place], reference.coordinates[replica])


def test_network_alone_and_in_a_batch_agree(tmp_path: Path) -> None:
    potential = toy_network()
    protocol = toy_protocol(length=0.4)  # 100 steps
    together = toy_positions(potential, protocol, None)
    for replica in range(4):
        alone = toy_positions(potential, protocol, [replica])
        torch.testing.assert_close(alone[0], together[replica], rtol=0, atol=1e-9)


def toy_positions(
    potential: NetworkPotential, protocol: registry.Protocol, replicas: list[int] | None
) -> torch.Tensor:
    """Return the float64 positions at the end, which the trajectory file rounds to float32."""
    from cgbench.simulation.dynamics import ReplicaDynamics
    from cgbench.simulation.langevin import LangevinSettings
    from cgbench.simulation.potentials import force_field
    from cgbench.simulation.streams import ReplicaStreams

    chosen = list(range(4)) if replicas is None else replicas
    system = toy_system()
    dynamics = ReplicaDynamics(
        force_field(potential, system.bead_types),
        LangevinSettings(protocol.timestep, protocol.friction, protocol.temperature, 12.0),
        ReplicaStreams(1, chosen, N_BEADS, dtype=torch.float64),
        system.starts[torch.tensor(chosen) % 3].double(),
    )
    for _ in range(protocol.n_steps(KEY)):
        dynamics.advance()
    assert bool(dynamics.alive.all())
    return dynamics.state.positions


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e200, 1e5])
@pytest.mark.parametrize("step", [1, 23, 25])
def test_one_replica_fails_and_the_others_do_not_notice(
    tmp_path: Path, reference: TrajectorySet, value: float, step: int
) -> None:
    potential = Faulty(SpringChain(), step, spoil(1, value))
    found = toy_run(potential, tmp_path / "trajectories.zarr")
    # Frame f shows the state after 5 (f + 1) steps. Forces of 1e5 and 1e200 act one step later.
    acts = step if not np.isfinite(value) else step + 1
    first_bad = -(-acts // 5) - 1
    assert found.alive_until.tolist() == [N_FRAMES, first_bad, N_FRAMES, N_FRAMES]
    assert found.network_energy is not None
    for replica in (0, 2, 3):
        np.testing.assert_array_equal(found.coordinates[replica], reference.coordinates[replica])
        assert np.isfinite(found.network_energy[replica]).all()
    np.testing.assert_array_equal(
        found.coordinates[1][:first_bad], reference.coordinates[1][:first_bad]
    )
    # Held still, at finite positions, without an energy.
    still = found.coordinates[1][first_bad:]
    assert np.isfinite(still).all()
    np.testing.assert_array_equal(still, np.broadcast_to(still[0], still.shape))
    assert np.isnan(found.network_energy[1][first_bad:]).all()
    assert np.isfinite(found.network_energy[1][:first_bad]).all()


def test_a_broken_bond_is_a_failure_of_the_frame_that_shows_it(tmp_path: Path) -> None:
    def pull(result: ChainResult) -> ChainResult:
        forces = result.forces.clone()
        forces[2, -1] += torch.tensor([300.0, 0.0, 0.0])
        return result._replace(forces=forces)

    found = toy_run(Faulty(SpringChain(), 11, pull), tmp_path / "trajectories.zarr")
    alive = found.alive_until[2]
    assert 2 < alive < N_FRAMES
    lengths = np.linalg.norm(np.diff(found.coordinates[2], axis=1), axis=2)
    good = ((lengths <= 5.5) & (lengths >= 2.5)).all(axis=1)
    assert good[:alive].all()
    assert not good[alive:].any()


def test_an_energy_that_is_not_finite_is_a_failure(tmp_path: Path) -> None:
    potential = Faulty(SpringChain(), 12, spoil(0, np.nan, "network_energy"))
    found = toy_run(potential, tmp_path / "trajectories.zarr")
    assert found.alive_until.tolist() == [2, N_FRAMES, N_FRAMES, N_FRAMES]


@pytest.mark.parametrize("step", [0, 13])
def test_a_run_without_survivors_is_failed_and_not_an_error(tmp_path: Path, step: int) -> None:
    def fault(result: ChainResult) -> ChainResult:
        return result._replace(forces=result.forces * np.nan)

    out = tmp_path / "trajectories.zarr"
    potential = Faulty(SpringChain(), step, fault)
    outcome = simulate(
        potential, toy_system(), toy_protocol(), seed=1, out=out, dtype=torch.float64
    )
    first_bad = max(0, -(-step // 5) - 1)
    assert outcome.status == "failed"
    assert outcome.alive_until == (first_bad,) * 4
    # It ends early.
    assert outcome.steps == 5 * (first_bad + 1)
    found = read_trajectories(out, KEY)
    assert found.alive_until.tolist() == [first_bad] * 4
    # And is remembered like any other.
    again = simulate(potential, toy_system(), toy_protocol(), seed=1, out=out, dtype=torch.float64)
    assert again == outcome


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda r: r._replace(forces=r.forces[:, :-1]), "wrong shape of forces"),
        (lambda r: r._replace(network_energy=r.network_energy[:1]), "network energy"),
        (lambda r: r._replace(forces=r.forces.float()), "another precision"),
    ],
)
def test_a_wrong_potential_leaves_earlier_results_intact(
    tmp_path: Path,
    reference: TrajectorySet,
    fault: Callable[[ChainResult], ChainResult],
    message: str,
) -> None:
    out = tmp_path / "trajectories.zarr"
    toy_run(SpringChain(), out)
    with pytest.raises(ValidationError, match=message):
        toy_run(Faulty(SpringChain(), 0, fault), out, force=True, model_hash="wrong")
    assert_same(toy_run(SpringChain(), out), reference)


def test_wrong_input_is_refused(tmp_path: Path) -> None:
    good = toy_system()
    with pytest.raises(ValidationError, match="start frames do not fit"):
        SystemInput(KEY, good.bead_types, good.starts[:, :-1], SEQUENCE)
    with pytest.raises(ValidationError, match="start frames do not fit"):
        SystemInput(KEY, good.bead_types, good.starts[:0], SEQUENCE)
    with pytest.raises(ValidationError, match="bead types do not fit"):
        SystemInput(KEY, good.bead_types[:-1], good.starts, SEQUENCE)
    broken = good.starts.clone()
    broken[1, 2, 0] = np.nan
    with pytest.raises(ValidationError, match=r"(?s)not finite.*\[1\]"):
        SystemInput(KEY, good.bead_types, broken, SEQUENCE)
    for replicas in ([], [1, 1]):
        with pytest.raises(ValidationError, match="distinct"):
            toy_run(SpringChain(), tmp_path / "trajectories.zarr", replicas=replicas)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("column", [False, True])
def test_flat_potentials_are_adapted(tmp_path: Path, column: bool) -> None:
    chain, system = SpringChain(), toy_system()
    positions = system.starts.double()
    expected = chain.chains(system.bead_types, positions)
    found = adapt(FlatSprings(chain, column=column)).chains(system.bead_types, positions)  # type: ignore[arg-type]
    assert torch.equal(found.forces, expected.forces)
    assert torch.equal(found.network_energy, expected.network_energy + expected.prior_energy)
    assert not found.prior_energy.any()
    assert adapt(chain) is chain


def test_a_chain_that_drifts_away_is_brought_back(tmp_path: Path) -> None:
    # A light chain that diffuses ten times its own length.
    protocol = toy_protocol(bead_mass=0.5, timestep=0.0005, friction=0.01, length=0.8)
    frames = toy_run(SpringChain(), tmp_path / "trajectories.zarr", protocol=protocol)
    for coordinates in frames.coordinates:
        assert not coordinates[:, N_BEADS // 2].any()


def test_largest_stable_step() -> None:
    # The stiffest mode of a long chain of springs has ω² → 4 k_s/m with k_s = 2 k; BAOAB is
    # stable below ωΔt = 2.
    stiffness = 400.0
    omega = np.sqrt(4 * 2 * stiffness * 418.4 / 12.0)
    limit = 2 / omega
    found = largest_stable_step(
        SpringChain(stiffness),
        toy_system(),
        toy_protocol(output_interval=0.1, length=0.8),
        seed=1,
        dtype=torch.float64,
        timesteps=[0.5 * limit, 0.8 * limit, 1.3 * limit, 2 * limit],
    )
    assert found == 0.8 * limit
    with pytest.raises(UsageError, match="output interval"):
        largest_stable_step(SpringChain(), toy_system(), toy_protocol(), seed=1, timesteps=[0.5])
