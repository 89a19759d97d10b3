"""Replica exchange in simulation: restart, failures, bookkeeping and what protocols allow."""

import json
from pathlib import Path

import numpy as np
import pydantic
import pytest
import torch
from toy_simulation import (
    KEY,
    N_BEADS,
    N_FRAMES,
    Faulty,
    SpringChain,
    assert_same,
    interrupt,
    spoil,
    toy_protocol,
    toy_run,
    toy_system,
)

from cgbench import config, registry
from cgbench.errors import ValidationError
from cgbench.evaluate import Ensemble
from cgbench.evaluate.ensemble_files import read_ensemble
from cgbench.generate.exchange import round_trips
from cgbench.pipeline.evaluate import evaluate_model
from cgbench.pipeline.simulate import told_of_mass
from cgbench.simulation.checkpoint import RunRecord
from cgbench.simulation.dynamics import ReplicaDynamics
from cgbench.simulation.exchange import TemperatureExchange
from cgbench.simulation.langevin import LangevinSettings
from cgbench.simulation.potentials import force_field
from cgbench.simulation.streams import ReplicaStreams, exchange_numbers
from cgbench.store import TrajectorySet, read_trajectories, trajectory_writer

LADDER = (350.0, 370.0, 392.0, 415.0)


def ladder_protocol(
    temperatures: tuple[float, ...] = LADDER, interval: float = 0.008, **changes: object
) -> registry.Protocol:
    """Two ladders of four temperatures, and attempts every second of five steps a frame."""
    ladder = {"temperatures": temperatures, "interval": interval, "source": "chosen here"}
    return toy_protocol(**{"n_replicas": 8, "ladder": ladder} | changes)


def ladder_run(potential: torch.nn.Module, out: Path, **options: object) -> TrajectorySet:
    return toy_run(potential, out, **{"protocol": ladder_protocol()} | options)


def assert_same_exchange(found: Path, expected: Path) -> None:
    outcomes = []
    for path in (found, expected):
        record = config.read_model(RunRecord, path.with_name(f"{path.stem}.{KEY}.run.json"))
        assert record.outcome is not None
        outcomes.append(record.outcome.exchange)
    assert outcomes[0] is not None
    assert outcomes[0] == outcomes[1]


def temperatures_of(frames: TrajectorySet) -> np.ndarray:
    assert frames.temperatures is not None
    return np.array(frames.temperatures)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrajectorySet]:
    """An undisturbed run."""
    out = tmp_path_factory.mktemp("whole") / "trajectories.zarr"
    return out, ladder_run(SpringChain(), out)


def test_every_frame_has_its_temperature(whole: tuple[Path, TrajectorySet]) -> None:
    out, frames = whole
    temperatures = temperatures_of(frames)
    assert temperatures.shape == (8, N_FRAMES)
    for ladder in (slice(0, 4), slice(4, 8)):
        np.testing.assert_array_equal(
            np.sort(temperatures[ladder], axis=0), np.tile(np.array(LADDER)[:, None], N_FRAMES)
        )
    # They move, and the two ladders by numbers of their own.
    assert (temperatures != temperatures[:, :1]).any()
    assert (temperatures[:4] != temperatures[4:]).any()
    record = config.read_model(RunRecord, out.with_name(f"trajectories.{KEY}.run.json"))
    assert record.outcome is not None
    exchange = record.outcome.exchange
    assert exchange is not None
    # 20 attempts in 40 steps; even and odd pairs take turns, in both ladders.
    assert exchange.attempts == (20, 20, 20)
    assert exchange.temperatures == LADDER


@pytest.mark.parametrize("step", [0, 3, 12, 29])
@pytest.mark.parametrize("interval", [0.0, 1e9])
def test_continued_after_an_interrupt_is_bitwise_the_same(
    tmp_path: Path,
    whole: tuple[Path, TrajectorySet],
    monkeypatch: pytest.MonkeyPatch,
    step: int,
    interval: float,
) -> None:
    # Frames reach the disk in twos, so that some are pending and some are not.
    monkeypatch.setattr(trajectory_writer, "_CHUNK", 2)
    out = tmp_path / "trajectories.zarr"
    with pytest.raises(KeyboardInterrupt):
        ladder_run(Faulty(SpringChain(), step, interrupt), out, checkpoint_interval=interval)
    found = ladder_run(SpringChain(), out)
    assert_same(found, whole[1])
    np.testing.assert_array_equal(temperatures_of(found), temperatures_of(whole[1]))
    assert_same_exchange(out, whole[0])


def test_a_dead_replica_keeps_its_temperature_and_stops_no_other(tmp_path: Path) -> None:
    out = tmp_path / "trajectories.zarr"
    protocol = ladder_protocol(length=0.4, interval=0.02)
    found = ladder_run(Faulty(SpringChain(), 12, spoil(1, np.nan)), out, protocol=protocol)
    dead = int(found.alive_until[1])
    assert dead == 2
    assert found.alive_until.tolist() == [20, 2, *[20] * 6]
    temperatures = temperatures_of(found)
    # A frame has the temperature before the attempt that follows it.
    assert len(set(temperatures[1][dead:])) == 1
    for ladder in (slice(0, 4), slice(4, 8)):
        assert (np.sort(temperatures[ladder], axis=0).T == LADDER).all()
    held = LADDER.index(temperatures[1][-1])
    for other in (0, 2, 3):
        at = np.searchsorted(LADDER, temperatures[other][dead:])
        # Nobody passes it.
        assert (at < held).all() or (at > held).all()
    assert any(len(set(row[dead:])) > 1 for row in temperatures)
    record = config.read_model(RunRecord, out.with_name(f"trajectories.{KEY}.run.json"))
    assert record.outcome is not None
    assert record.outcome.exchange is not None
    # 20 attempts, ten of each parity, in two ladders; pairs with the dead one are not tried.
    attempts = record.outcome.exchange.attempts
    assert sum(attempts) == 2 * (10 * 2 + 10) - sum(
        (pair == held) + (pair == held - 1)
        for number in range(2, 20)
        for pair in range(number % 2, 3, 2)
    )


def test_a_ladder_alone_is_bitwise_that_of_the_batch(
    tmp_path: Path, whole: tuple[Path, TrajectorySet]
) -> None:
    found = ladder_run(SpringChain(), tmp_path / "trajectories.zarr", replicas=[4, 5, 6, 7])
    for place in range(4):
        np.testing.assert_array_equal(found.coordinates[place], whole[1].coordinates[4 + place])
    np.testing.assert_array_equal(temperatures_of(found), temperatures_of(whole[1])[4:])


@pytest.mark.parametrize("replicas", [[0, 1, 2], [0, 2, 1, 3], [1, 2, 3, 4], [0, 1, 2, 3, 4]])
def test_torn_ladders_are_refused(tmp_path: Path, replicas: list[int]) -> None:
    with pytest.raises(ValidationError, match="one ladder must be simulated together"):
        ladder_run(SpringChain(), tmp_path / "trajectories.zarr", replicas=replicas)


def test_temperatures_that_are_all_the_same_change_no_bit() -> None:
    paths = []
    for temperatures in (None, np.full(3, 350.0)):
        dynamics = ReplicaDynamics(
            force_field(SpringChain(dtype=torch.float32), toy_system().bead_types),
            LangevinSettings(0.004, 1.0, 350.0, 12.0),
            ReplicaStreams(1, range(3), N_BEADS),
            toy_system().starts,
            temperatures=temperatures,
        )
        for _ in range(50):
            dynamics.advance()
        if temperatures is not None:
            dynamics.set_temperatures(temperatures)
        paths.append((dynamics.state.positions, dynamics.state.velocities))
    assert torch.equal(paths[0][0], paths[1][0])
    assert torch.equal(paths[0][1], paths[1][1])


def test_velocities_are_scaled_to_the_new_temperature() -> None:
    dynamics = ReplicaDynamics(
        force_field(SpringChain(), toy_system().bead_types),
        LangevinSettings(0.004, 1.0, 350.0, 12.0),
        ReplicaStreams(1, range(3), N_BEADS, dtype=torch.float64),
        toy_system().starts.double(),
        temperatures=np.array([300.0, 350.0, 400.0]),
    )
    before = dynamics.state.velocities.clone()
    dynamics.set_temperatures(np.array([400.0, 350.0, 300.0]))
    ratio = (dynamics.state.velocities / before).square().mean(dim=(1, 2))
    np.testing.assert_allclose(ratio, [4 / 3, 1.0, 3 / 4], rtol=1e-12)


def test_round_trips_are_those_of_the_whole_history() -> None:
    ladder = registry.TemperatureLadder(temperatures=LADDER, interval=1.0, source="chosen here")
    exchange = TemperatureExchange(ladder, 3, tuple(range(12)))
    random = np.random.default_rng(0)
    history = [exchange.snapshot().rungs]
    able = np.ones(12, dtype=bool)
    for number in range(600):
        exchange.attempt(number, random.gamma(2.0, 1.0, 12), able)
        history.append(exchange.snapshot().rungs)
    expected = tuple(round_trips(row, 4) for row in np.array(history).T)
    assert min(expected) > 5
    assert exchange.outcome().round_trips == expected


def test_numbers_of_exchanges_are_no_others() -> None:
    drawn = np.array([exchange_numbers(1, 0, number).random(20) for number in range(50)])
    assert len(np.unique(drawn)) == drawn.size
    np.testing.assert_array_equal(exchange_numbers(1, 0, 7).random(20), drawn[7])
    assert not np.isin(exchange_numbers(1, 4, 7).random(20), drawn).any()
    noise = np.random.Philox(key=np.random.SeedSequence(1, spawn_key=(0,)).generate_state(2, "u8"))
    assert not np.isin(np.random.Generator(noise).random(1000), drawn).any()


def test_frames_after_the_end_of_every_replica_are_lost_not_an_error(tmp_path: Path) -> None:
    def all_dead(result):
        return result._replace(forces=result.forces * np.nan)

    protocol = ladder_protocol(length=2.0)
    found = ladder_run(
        Faulty(SpringChain(), 300, all_dead), tmp_path / "trajectories.zarr", protocol=protocol
    )
    assert found.status == "failed"
    ensemble = Ensemble.from_trajectory_set(found)
    assert not ensemble.time_ordered
    assert ensemble.weights is not None
    weights = np.concatenate(
        [one[until:] for one, until in zip(ensemble.weights, ensemble.alive_until, strict=True)]
    )
    # The first tenth was dropped: 49 of 90 frames are whole.
    assert weights.sum() == pytest.approx(41 / 90, abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_replicas": 6}, "whole ladders"),
        ({"temperature": 300.0}, "not between"),
        ({"interval": 0.005}, "multiple of timestep"),
        ({"temperatures": (350.0, 350.0)}, "do not ascend"),
        ({"temperatures": (0.0, 350.0)}, "do not ascend"),
        ({"temperatures": (350.0,)}, "at least 2"),
    ],
)
def test_protocols_that_make_no_sense(changes: dict[str, object], message: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=message):
        ladder_protocol(**changes)


def test_protocols_without_a_ladder_keep_their_fingerprints() -> None:
    for protocol in registry.protocols():
        assert ("ladder" in protocol.model_dump(mode="json")) == (protocol.ladder is not None)
        assert registry.Protocol.model_validate(protocol.model_dump()) == protocol
    exchange = registry.protocol("replica-exchange")
    standard = registry.protocol("standard")
    assert exchange.ladder is not None
    assert exchange.n_replicas == standard.n_replicas == 4 * exchange.ladder.n_temperatures
    assert exchange.n_steps("lambda") == standard.n_steps("lambda")
    # One ratio throughout.
    ratios = np.divide(exchange.ladder.temperatures[1:], exchange.ladder.temperatures[:-1])
    np.testing.assert_allclose(ratios, ratios.mean(), rtol=1e-4)


@pytest.mark.slow
def test_from_a_model_to_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    protocol = registry.protocol("replica-exchange")
    short = protocol.model_copy(update={"length": 2.0, "n_replicas": 8})
    monkeypatch.setattr(registry, "protocol", lambda name: short)
    out = tmp_path / "run"
    result = evaluate_model(
        "torchmd-gn/chignolin-sample-v2",
        ["chignolin-sample-v2"],
        protocol="replica-exchange",
        out=out,
        prior=False,
        paper=True,
        workers=1,
        home=tmp_path / "home",
    )
    (row,) = result.systems
    assert row.status == "ok"
    assert row.weights_status == "given"
    assert row.n_frames == 8 * 18
    assert row.effective_frames < 8 * 18
    assert row.metrics["fes_rmse"].status == "ok"
    assert row.metrics["replicas_alive"].status == "n/a"
    assert row.paper is None
    told = " ".join(row.notes)
    for words in ("8 temperatures from 350 to 500 K", "round trips", "MBAR", "time order"):
        assert words in told
    assert (out / "report.html").is_file()
    # The same frames as an ensemble from files have the same scores.
    ensemble = read_ensemble(out / "trajectories.zarr", "chignolin-sample-v2")
    simulated = Ensemble.from_trajectory_set(read_trajectories(out / "trajectories.zarr"))
    for one, other in zip(ensemble.weights or [], simulated.weights or [], strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_mass_is_labelled() -> None:
    standard = registry.protocol("standard")
    assert told_of_mass(standard) == []
    (told,) = told_of_mass(standard.model_copy(update={"bead_mass": 24.0}))
    assert "24 amu a bead instead of 12 amu" in told


def test_the_page_shows_the_measured_errors() -> None:
    root = Path(__file__).parents[1]
    found = json.loads((root / "benchmarks/results/replica_exchange.json").read_text())
    page = (root / "docs/replica-exchange.md").read_text(encoding="utf-8")
    rows = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("| the ")]
    assert len(rows) == len(found["starts"])
    for (_, *cells), measured in zip(rows, found["starts"].values(), strict=True):
        ends = {kind: curve[-1] for kind, curve in measured["mean"].items()}
        assert [cell.strip() for cell in cells] == [
            f"{ends['plain']['force_evaluations']:,.0f}",
            *(f"{ends[kind]['fes_rmse']:.2f}" for kind in ("plain", "plain_msm", "exchange")),
        ]
    assert f"differ by {found['floor']['fes_rmse']:.2f}:" in page
