"""Mean forces with held beads: exact answers, the held ensemble, restarts and errors."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from numpy.typing import NDArray
from toy_molecule import SITES, toy_mean_forces, toy_positions, toy_system

from cgbench.errors import IntegrityError, SimulationError, UsageError, ValidationError
from cgbench.force_maps import ForceMap, constraint_groups, hydrogens_map, slice_map
from cgbench.generate.held import HELD_MASS, hold
from cgbench.generate.mean_force import combine_blocks, compute_mean_forces
from cgbench.generate.mean_force_set import (
    MeanForceSet,
    MeanForceSettings,
)
from cgbench.generate.settings import DynamicsSettings
from cgbench.generate.simulate import Engine

openmm = pytest.importorskip("openmm")

TEMPERATURE = 350.0
DYNAMICS = DynamicsSettings(
    temperature=TEMPERATURE, friction=10.0, timestep=0.004, frame_interval=0.1
)
SETTINGS = MeanForceSettings(
    dynamics=DYNAMICS, copies=8, heating_temperature=None, equilibration=2.0, sampling=20.0
)
QUICK = SETTINGS.model_copy(update={"copies": 2, "sampling": 1.0, "equilibration": 0.1})
FRAMES = np.array([5, 11, 2, 40, 7, 8])


def toy_map() -> ForceMap:
    return hydrogens_map(SITES, constraint_groups(toy_system()))


def run(out: Path, n: int = 3, **changes: Any) -> MeanForceSet:
    arguments: dict[str, Any] = {"settings": QUICK, "platform": "Reference", **changes}
    return compute_mean_forces(
        toy_system(), toy_map(), toy_positions(n), FRAMES[:n], out, **arguments
    )


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> MeanForceSet:
    return run(tmp_path_factory.mktemp("toy") / "out", 6, settings=SETTINGS)


class TestExactAnswers:
    def test_mean_forces_are_exact_and_their_errors_calibrated(self, found: MeanForceSet) -> None:
        exact = toy_mean_forces(toy_positions(6), TEMPERATURE)
        assert (found.standard_errors < 0.12).all()
        assert np.abs(exact).mean() > 4
        # Eight independent copies: Student's t with seven degrees of freedom.
        deviations = ((found.mean_forces - exact) / found.standard_errors).ravel()
        assert scipy.stats.kstest(deviations, "t", args=(7,)).pvalue > 1e-3
        squares = ((found.mean_forces - exact) ** 2 / found.noise).sum()
        assert 1e-3 < scipy.stats.chi2.cdf(squares, found.mean_forces.size) < 1 - 1e-3

    def test_without_slow_motion_blocks_tell_the_same_error(self, found: MeanForceSet) -> None:
        ratio = (found.block_errors**2).mean() / found.noise
        assert 0.6 < ratio < 1.5

    def test_the_beads_stay(self, found: MeanForceSet) -> None:
        np.testing.assert_array_equal(found.coordinates, toy_positions(6)[:, SITES])
        assert found.record.drift < 1e-6

    def test_another_consistent_map_has_the_same_mean(self, tmp_path: Path) -> None:
        weights = toy_map().weights.copy()
        weights[:, 3] = [0.6, 0.1]
        other = ForceMap("other", weights, SITES, toy_map().groups)
        found = compute_mean_forces(
            toy_system(), other, toy_positions(2), [0, 1], tmp_path,
            settings=SETTINGS, platform="Reference",
        )  # fmt: skip
        exact = toy_mean_forces(toy_positions(2), TEMPERATURE)
        assert np.abs((found.mean_forces - exact) / found.standard_errors).max() < 8

    def test_heating_is_forgotten(self, tmp_path: Path) -> None:
        hot = SETTINGS.model_copy(update={"heating_temperature": 900.0, "heating": 1.0})
        found = run(tmp_path, 2, settings=hot)
        exact = toy_mean_forces(toy_positions(2), TEMPERATURE)
        assert np.abs((found.mean_forces - exact) / found.standard_errors).max() < 8


def trimer() -> Any:
    """A light atom with rigid bonds to two heavy ones, as far from constant det Z as it gets."""
    system = openmm.System()
    for mass in (1.0, 12.0, 12.0):
        system.addParticle(mass)
    system.addConstraint(0, 1, 0.1)
    system.addConstraint(0, 2, 0.1)
    return system


def squared_cosines(system: Any, n: int) -> NDArray[np.float64]:
    dynamics = DYNAMICS.model_copy(update={"timestep": 0.002})
    engine = Engine(system, dynamics, seed=3, platform="Reference")
    engine.set_positions(np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]))
    engine.thermalise(TEMPERATURE)
    values = np.empty(n)
    for index in range(n):
        engine.step(100)
        first, second = np.diff(engine.state().positions[[1, 0, 2]], axis=0)
        values[index] = (first @ second) ** 2
    return values


class TestTwoBonds:
    def test_the_angle_is_distributed_as_without_holding(self) -> None:
        c = 1 / (1 + 1 / 12) ** 2

        def moment(power: int) -> float:
            value, _ = scipy.integrate.quad(lambda x: x**power * np.sqrt(1 - c * x * x), -1, 1)
            return float(value)

        exact = moment(2) / moment(0)
        # Far from 1/3, which holding gives without the correction.
        assert exact < 0.29
        for system in (trimer(), hold(trimer(), np.array([0]), TEMPERATURE)):
            values = squared_cosines(system, 4000)
            blocks = values.reshape(40, 100).mean(axis=1)
            error = blocks.std(ddof=1) / np.sqrt(40)
            assert error < 0.012
            assert abs(values.mean() - exact) < 4 * error

    def test_the_correction_adds_nothing_to_a_consistent_map(self) -> None:
        engine = Engine(
            hold(trimer(), np.array([0]), TEMPERATURE), DYNAMICS, seed=1, platform="Reference"
        )
        engine.set_positions(np.array([[0.0, 0, 0], [1, 0, 0], [0.6, 0.8, 0]]))
        forces = engine.state().forces
        assert np.abs(forces).max() > 0.1
        assert np.abs(forces.sum(axis=0)).max() < 1e-10


class TestHold:
    def test_the_caller_s_system_stays_as_it_is(self) -> None:
        system = toy_system()
        before = openmm.XmlSerializer.serialize(system)
        held = hold(system, SITES, TEMPERATURE)
        assert openmm.XmlSerializer.serialize(system) == before
        assert held.getParticleMass(0)._value == HELD_MASS
        assert held.getNumConstraints() == system.getNumConstraints()
        assert held.getNumForces() == system.getNumForces() - 1

    def test_what_cannot_be_held(self) -> None:
        system = toy_system()
        with pytest.raises(ValidationError, match="does not exist"):
            hold(system, np.array([5]), TEMPERATURE)
        with pytest.raises(ValidationError, match="joined by a constraint"):
            hold(system, np.array([0, 1]), TEMPERATURE)
        system.addConstraint(1, 3, 0.2)
        with pytest.raises(ValidationError, match="not supported"):
            hold(system, SITES, TEMPERATURE)
        massless = toy_system()
        massless.setParticleMass(2, 0.0)
        with pytest.raises(ValidationError, match="has no mass"):
            hold(massless, SITES, TEMPERATURE)
        pressure = toy_system()
        pressure.addForce(openmm.MonteCarloBarostat(1.0, 300.0))
        with pytest.raises(UsageError, match="Barostat"):
            hold(pressure, SITES, TEMPERATURE)


class TestRuns:
    def test_an_interrupted_run_goes_on_where_it_was(self, tmp_path: Path) -> None:
        whole = run(tmp_path / "whole")

        def interrupt(task: str, done: float, total: float) -> None:
            if done == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "parts", progress=interrupt)
        cut, kept = sorted((tmp_path / "parts" / "frames").glob("*.npz"))
        # An array without its record is a frame that was cut off.
        cut.with_suffix(".json").unlink()
        cut.write_bytes(b"half a file")
        before = kept.stat().st_mtime_ns
        seen = []

        def watch(task: str, done: float, total: float) -> None:
            seen.append((done, total, kept.stat().st_mtime_ns))

        parts = run(tmp_path / "parts", progress=watch)
        assert seen == [(1, 3, before), (2, 3, before), (3, 3, before)]
        np.testing.assert_array_equal(parts.mean_forces, whole.mean_forces)
        assert parts.record == whole.record
        assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == [
            "mean_forces.json",
            "mean_forces.npz",
        ]

    def test_a_run_out_of_time_gives_what_it_has_and_goes_on(self, tmp_path: Path) -> None:
        whole = run(tmp_path / "whole")
        first = run(tmp_path / "parts", hours=0.0)
        assert len(first.frames) == 1
        assert sorted((*first.frames, *first.record.pending)) == sorted(FRAMES[:3])
        again = run(tmp_path / "parts", hours=0.0)
        assert len(again.frames) == 1
        with pytest.raises(UsageError, match="holds other mean forces"):
            run(tmp_path / "parts", n=2)
        last = run(tmp_path / "parts", hours=1.0)
        assert last.record == whole.record
        np.testing.assert_array_equal(last.mean_forces, whole.mean_forces)

    def test_a_finished_run_is_not_repeated(self, tmp_path: Path) -> None:
        run(tmp_path)
        before = (tmp_path / "mean_forces.npz").stat().st_mtime_ns
        run(tmp_path)
        assert (tmp_path / "mean_forces.npz").stat().st_mtime_ns == before
        with pytest.raises(UsageError, match="holds other mean forces"):
            run(tmp_path, settings=QUICK.model_copy(update={"seed": 1}))

    def test_another_run_is_not_mixed_in(self, tmp_path: Path) -> None:
        def interrupt(task: str, done: float, total: float) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, progress=interrupt)
        with pytest.raises(UsageError, match="another run"):
            run(tmp_path, n=2)

    def test_a_frame_does_not_depend_on_the_others(self, tmp_path: Path) -> None:
        three, positions = run(tmp_path / "a"), toy_positions(3)
        alone = compute_mean_forces(
            toy_system(), toy_map(), positions[[1]], FRAMES[[1]], tmp_path / "b",
            settings=QUICK, platform="Reference",
        )  # fmt: skip
        np.testing.assert_array_equal(alone.mean_forces[0], three.mean_forces[1])

    def test_a_frame_that_diverges_is_left_out_and_named(self, tmp_path: Path) -> None:
        positions = toy_positions(3)
        positions[1, 3] += 1e6
        found = compute_mean_forces(
            toy_system(), toy_map(), positions, FRAMES[:3], tmp_path / "one",
            settings=QUICK, platform="Reference",
        )  # fmt: skip
        assert found.record.failed == (11,)
        assert found.frames.tolist() == [5, 2]
        with pytest.raises(SimulationError, match="not one of 1 frames"):
            compute_mean_forces(
                toy_system(), toy_map(), positions[[1]], [1], tmp_path / "none",
                settings=QUICK, platform="Reference",
            )  # fmt: skip

    def test_a_damaged_frame_is_noticed(self, tmp_path: Path) -> None:
        def interrupt(task: str, done: float, total: float) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, progress=interrupt)
        (damaged,) = (tmp_path / "frames").glob("*.npz")
        damaged.write_bytes(b"nonsense")
        with pytest.raises(IntegrityError, match=damaged.name):
            run(tmp_path)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"force_map": slice_map(SITES, constraint_groups(toy_system()))}, "not consistent"),
            ({"force_map": slice_map(SITES, np.arange(5))}, "not consistent"),
            ({"force_map": slice_map(SITES, np.arange(6))}, "more atoms"),
            ({"positions": toy_positions(3)[:, :4]}, "wrong shape"),
            ({"positions": np.full((3, 5, 3), np.nan)}, "not finite"),
            ({"frames": [1, 1, 2]}, "each once"),
            ({"frames": [1, -1, 2]}, "each once"),
        ],
    )
    def test_what_does_not_fit(self, change: dict[str, Any], message: str, tmp_path: Path) -> None:
        arguments = {
            "force_map": toy_map(), "positions": toy_positions(3), "frames": [1, 2, 3], **change
        }  # fmt: skip
        with pytest.raises(ValidationError, match=message):
            compute_mean_forces(toy_system(), out=tmp_path / "out", **arguments)
        assert not (tmp_path / "out").exists()

    def test_settings(self) -> None:
        assert SETTINGS.samples_per_block == 40
        with pytest.raises(ValueError, match="fewer samples"):
            MeanForceSettings(sampling=0.3)


class TestCombineBlocks:
    def test_correlated_copies_show_between_copies(self) -> None:
        generator = np.random.default_rng(0)
        offsets = generator.normal(size=(400, 1, 1)) * 3
        blocks = offsets + generator.normal(size=(400, 10, 1))
        mean, error, between_blocks = combine_blocks(blocks)
        assert error[0] == pytest.approx(np.sqrt((9 + 0.1) / 400), rel=0.15)
        assert between_blocks[0] == pytest.approx(np.sqrt(10 / 4000), rel=0.15)
        assert abs(mean[0]) < 4 * error[0]

    def test_one_copy_has_blocks_only(self) -> None:
        blocks = np.random.default_rng(0).normal(size=(1, 500, 2))
        _, error, between_blocks = combine_blocks(blocks)
        np.testing.assert_array_equal(error, between_blocks)
        np.testing.assert_allclose(error, 1 / np.sqrt(500), rtol=0.15)
