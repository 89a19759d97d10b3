"""A walker in two wells, whose populations and free energies are known exactly."""

import functools
from types import SimpleNamespace

import numpy as np
import pytest
from toy_metrics import TEMPERATURE

from cgbench import registry
from cgbench.evaluate import METRICS
from cgbench.evaluate.distributions import Distributions, distributions
from cgbench.evaluate.metrics import Comparison
from cgbench.evaluate.metrics.divergence import smoothed_free_energy
from cgbench.evaluate.observables import Observables
from cgbench.evaluate.reference_bundle import Basins
from cgbench.evaluate.tally import tally
from cgbench.evaluate.weights import count_transitions, solve_weights
from cgbench.units import thermal_energy

SCALE = thermal_energy(TEMPERATURE)
EDGES = np.linspace(-2.0, 2.0, 41)
CENTRES = 0.5 * (EDGES[1:] + EDGES[:-1])
#: The walker is unfolded left of the first, folded right of the second.
UNFOLDED, FOLDED = -0.8, 0.8
SMOOTHING = 0.01


def potential(tilt):
    """Two wells along x with a barrier of 2 kcal/mol, and a spring along y."""
    along = 2.0 * (CENTRES**2 - 1.0) ** 2 + tilt * CENTRES
    return along[:, None] + 2.0 * CENTRES[None, :] ** 2


def stationary(tilt, temperature=TEMPERATURE):
    """Exact probability of each cell, (40, 40)."""
    weight = np.exp(-potential(tilt) / thermal_energy(temperature))
    return weight / weight.sum()


@functools.cache
def walk(tilt, n_walkers=300, n_frames=300, steps=50, seed=0):
    """Cells (n_walkers, n_frames, 2) of Metropolis walkers that all start in the left well."""
    random = np.random.default_rng(seed)
    energy = potential(tilt)
    place = np.tile([[10, 20]], (n_walkers, 1))
    frames = np.empty((n_walkers, n_frames, 2), dtype=np.int64)
    moves = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
    for frame in range(n_frames):
        for _ in range(steps):
            trial = place + moves[random.integers(4, size=n_walkers)]
            inside = ((trial >= 0) & (trial < 40)).all(axis=1)
            trial = np.where(inside[:, None], trial, place)
            rise = energy[tuple(trial.T)] - energy[tuple(place.T)]
            accepted = inside & (random.random(n_walkers) < np.exp(-rise / SCALE))
            place = np.where(accepted[:, None], trial, place)
        frames[:, frame] = place
    return frames


def q_of(x):
    return (x + 2.0) / 4.0


def definition():
    edges = dict.fromkeys(("tic1", "tic2", "rg", "end_to_end"), EDGES)
    return SimpleNamespace(
        edges=edges | {"q": q_of(EDGES), "rmsd": q_of(EDGES)},
        fes_edges=np.stack([EDGES, EDGES]),
        macrostate=(CENTRES > 0).astype(np.int64),
        n_microstates=40,
        n_macrostates=2,
        outside_distance=1.0,
        basins=Basins(folded_q=q_of(FOLDED), folded_rmsd=9.0, unfolded_q=q_of(UNFOLDED)),
    )


def bundle(reference):
    fake = SimpleNamespace(
        fes_edges=np.stack([EDGES, EDGES]),
        edges=definition().edges,
        definition=definition(),
        tic_sigma=np.ones(2),
        temperature=TEMPERATURE,
        stationary=reference.sum(axis=1),
        metadata=SimpleNamespace(smoothing=SMOOTHING),
    )
    table = np.append(reference.ravel(), 0.0)[:, None]
    fake.fes = smoothed_free_energy(table, fake.fes_edges, np.full(2, SMOOTHING), TEMPERATURE)
    fake.fes = fake.fes[:, :, 0]
    return fake


def exact(probability):
    """Distributions as they would be of endlessly many frames."""
    along = probability.sum(axis=1)
    masses = {
        "plane": np.append(probability.ravel(), 0.0),
        "tic1": along,
        "tic2": probability.sum(axis=0),
        "q": along,
        "macrostate": np.array([along[CENTRES < 0].sum(), along[CENTRES > 0].sum(), 0.0]),
    }
    means = {f"{name}_{side}": 0.0 for name in ("tic1", "tic2", "q") for side in ("below", "above")}
    means["folded"] = along[CENTRES > FOLDED].sum()
    return Distributions(
        masses={name: table[:, None] for name, table in masses.items()},
        means={name: np.array([mean]) for name, mean in means.items()},
        state_mass=along[:, None],
        state_rmsd=np.zeros((40, 1)),
        dead=np.zeros(1),
        native_macrostate=np.ones(1, dtype=np.int64),
    )


def sampled(tilt, *, weighted=True):
    """Distributions of the walkers, weighted by a Markov state model of them."""
    cells = walk(tilt)
    n, length = cells.shape[:2]
    first, second = cells.reshape(-1, 2).T
    x, y = (CENTRES[side].astype(np.float32) for side in (first, second))
    observables = Observables(
        trajectory=np.repeat(np.arange(n, dtype=np.int32), length),
        microstate=first.astype(np.int32),
        tics=np.stack([x, y], axis=1),
        rg=x,
        end_to_end=x,
        q=q_of(x).astype(np.float32),
        rmsd=q_of(x).astype(np.float32),
        handedness=np.ones_like(x),
        centre_distance=np.zeros_like(x),
        alive=np.ones(len(x), dtype=bool),
        n_trajectories=n,
    )
    counts = count_transitions(
        observables.microstate, observables.trajectory, 40, n, 4, observables.alive
    )
    weights = np.ones((40, 1))
    if weighted:
        solved = solve_weights(counts, None, temperature=TEMPERATURE)
        assert solved.status == "ok"
        weights = solved.weight_of_state[:, None]
    return distributions(tally(observables, definition()), np.ones((n, 1)), weights)


def scores(model, reference):
    comparison = Comparison(model, exact(reference), bundle(reference), np.ones(1))
    names = ("w1_tic1", "w1_tic2", "q_w1", "fes_rmse", "fes_mae", "js_2d", "kl_2d")
    more = ("dG_fold", "native_population", "macro_pop", "coverage", "precision")
    return {name: METRICS[name](comparison)[0] for name in (*names, *more)}


@pytest.mark.parametrize("tilt", [-0.3, 0.5])
def test_exact_distributions_have_the_analytic_values(tilt):
    reference, model = stationary(0.2), stationary(tilt)
    found = scores(exact(model), reference)
    cells = potential(0.2) - potential(0.2).min() <= registry.constants().fes_cutoff
    difference = (potential(tilt) - potential(0.2))[cells]
    near = (potential(tilt) - potential(tilt).min() <= registry.constants().fes_cutoff)[cells]
    difference = difference - difference[near].mean()
    assert found["fes_rmse"] == pytest.approx(np.sqrt((difference**2).mean()), rel=0.03)
    assert found["fes_mae"] == pytest.approx(np.abs(difference).mean(), rel=0.03)
    along, other = model.sum(axis=1), reference.sum(axis=1)
    # The tilt moves all mass one way, so that the distance is that of the means.
    assert found["w1_tic1"] == pytest.approx(abs((along - other) @ CENTRES))
    assert found["q_w1"] == pytest.approx(abs((along - other) @ CENTRES) / 4.0)
    assert found["w1_tic2"] == pytest.approx(0.0, abs=1e-12)
    assert found["kl_2d"] == pytest.approx(
        (reference * np.log(reference / model)).sum(), rel=0.02, abs=1e-4
    )
    right, left = along[CENTRES > FOLDED].sum(), along[CENTRES < UNFOLDED].sum()
    assert found["dG_fold"] == pytest.approx(-SCALE * np.log(right / left))
    assert found["native_population"] == pytest.approx(right)
    errors = [
        abs(np.log(along[side].sum() / other[side].sum())) for side in (CENTRES < 0, CENTRES > 0)
    ]
    # The state of what is outside has no mass in either.
    assert found["macro_pop"] == pytest.approx(SCALE * sum(errors) / 3)
    assert found["coverage"] == pytest.approx(1.0)
    likely = bundle(reference).fes <= registry.constants().fes_cutoff
    assert found["precision"] == pytest.approx(model[likely].sum())


@pytest.mark.parametrize("tilt", [0.2, -0.3])
def test_walkers_that_start_on_one_side_get_the_exact_values(tilt):
    reference = stationary(0.2)
    found = scores(sampled(tilt), reference)
    expected = scores(exact(stationary(tilt)), reference)
    # Cells near the cutoff hold few frames, which raises what is compared cell by cell.
    tolerance = {"fes_rmse": 0.2, "fes_mae": 0.12, "js_2d": 0.02, "kl_2d": 0.05, "dG_fold": 0.12}
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=tolerance.get(name, 0.05)), name


def test_without_weights_the_start_would_show():
    reference = stationary(0.2)
    weighted, counted = (scores(sampled(0.2, weighted=flag), reference) for flag in (True, False))
    for name in ("w1_tic1", "macro_pop"):
        assert counted[name] > 2.0 * weighted[name], name


def test_wrong_temperatures_are_ranked():
    reference = stationary(0.2)
    found = [
        scores(exact(stationary(0.2, temperature)), reference)
        for temperature in (350.0, 385.0, 455.0, 560.0, 800.0)
    ]
    for name in ("fes_rmse", "fes_mae", "js_2d", "kl_2d", "macro_pop", "w1_tic2"):
        values = [one[name] for one in found]
        assert values == sorted(values), name
        assert values[0] < 1e-9 < values[1], name
    precisions = [one["precision"] for one in found]
    assert precisions == sorted(precisions, reverse=True)
