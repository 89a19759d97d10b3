"""Pairwise splines: against scipy's, their design matrix, and fits whose answer is known."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline

from cgbench import registry
from cgbench.errors import UsageError, ValidationError
from cgbench.models import (
    NetworkPotential,
    PairSpline,
    PairSplineSettings,
    PotentialSpec,
    check_potential,
    load_model,
    model_hash,
    save_model,
)
from cgbench.models.pair_spline import GROUPS, chain_pairs
from cgbench.testing.strategies import random_chains
from cgbench.train.kinds import as_config, train
from cgbench.train.pair_spline import (
    NormalEquations,
    PairSplineConfig,
    choose,
    design_matrix,
    solve,
)

LETTERS = "".join(sorted(registry.bead_vocabulary().letters))
TYPES = np.array(registry.bead_vocabulary().types(LETTERS))


def random_spline(settings: PairSplineSettings, seed: int = 0) -> PairSpline:
    shape = (settings.n_functions, settings.n_intervals)
    return PairSpline(settings, np.random.default_rng(seed).normal(size=shape)).double()


def scipys(settings: PairSplineSettings, coefficients: np.ndarray) -> BSpline:
    knots = settings.first_knot + settings.spacing * np.arange(-3, settings.n_intervals + 4)
    return BSpline(knots, np.append(coefficients, np.zeros(3)), 3, extrapolate=False)


@given(
    first=st.floats(1.0, 5.0),
    width=st.floats(3.0, 12.0),
    n_intervals=st.integers(4, 40),
    seed=st.integers(0, 1000),
)
def test_functions_are_scipys_splines(
    first: float, width: float, n_intervals: int, seed: int
) -> None:
    settings = PairSplineSettings(
        first_knot=first, cutoff=first + width, n_intervals=n_intervals, types="none"
    )
    spline = random_spline(settings, seed)
    inside = np.linspace(settings.first_knot, settings.cutoff, 200)[:-1]
    expected = scipys(settings, spline.coefficients[0].detach().numpy())
    assert spline.function(inside, 0) == pytest.approx(expected(inside), abs=1e-10)
    assert abs(spline.function(np.array([settings.cutoff]), 0)[0]) < 1e-12
    beyond = settings.cutoff + np.array([1e-6, 1.0, 1e6])
    assert np.array_equal(spline.function(beyond, 0), np.zeros(3))
    # Below the first knot a straight line with the value and slope at it.
    below = settings.first_knot - np.array([0.5, 0.1])
    line = expected(settings.first_knot) - expected.derivative()(settings.first_knot) * (
        settings.first_knot - below
    )
    assert spline.function(below, 0) == pytest.approx(line, abs=1e-9)


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), n_beads=st.integers(5, 20))
def test_energy_is_the_sum_over_pairs(seed: int, n_beads: int) -> None:
    settings = PairSplineSettings(types="groups")
    spline = random_spline(settings, seed)
    types = np.random.default_rng(seed).choice(TYPES, n_beads)
    pos = random_chains(2, n_beads, seed)
    energy, _ = spline.energy_forces_chains(torch.from_numpy(types), torch.from_numpy(pos))
    group = {letter: index for index, one in enumerate(GROUPS) for letter in one}
    letters = [LETTERS[int(np.flatnonzero(kind == TYPES)[0])] for kind in types]
    # Pairs of groups in the order (0, 0), (0, 1) … (1, 1) …
    places = [(a, b) for a in range(len(GROUPS)) for b in range(a, len(GROUPS))]
    for frame in range(2):
        total = 0.0
        for i in range(n_beads):
            for j in range(i + 2, n_beads):
                distance = np.array([np.linalg.norm(pos[frame, i] - pos[frame, j])])
                total += spline.function(distance, min(j - i, 4) - 2)[0]
                if j - i >= 4:
                    pair = tuple(sorted((group[letters[i]], group[letters[j]])))
                    total += spline.function(distance, 3 + places.index(pair))[0]
        assert float(energy[frame]) == pytest.approx(total, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("types", ["none", "groups", "pairs"])
def test_the_design_matrix_gives_the_forces(types: str) -> None:
    settings = PairSplineSettings(types=types, n_intervals=8)
    spline = random_spline(settings)
    # Some pairs are closer than the first knot, some beyond the cutoff.
    pos = random_chains(5, 21, 3) * np.array([0.6, 0.8, 1.0, 1.2, 3.0])[:, None, None]
    matrix = design_matrix(settings, TYPES[:21], pos)
    forces = spline.energy_forces_chains(torch.from_numpy(TYPES[:21]), torch.from_numpy(pos))[1]
    coefficients = spline.coefficients.detach().numpy().reshape(-1)
    assert matrix @ coefficients == pytest.approx(forces.numpy().reshape(-1), abs=1e-10)


def test_classes_cover_the_vocabulary_and_pairs_have_no_direction() -> None:
    assert sorted("".join(GROUPS)) == sorted(LETTERS)
    assert PairSplineSettings(types="none").n_functions == 3
    assert PairSplineSettings(types="groups").n_functions == 3 + 21
    assert (
        PairSplineSettings(types="pairs").n_functions == 3 + len(LETTERS) * (len(LETTERS) + 1) // 2
    )
    settings = PairSplineSettings(types="pairs")
    chain = np.concatenate([TYPES, TYPES])
    forwards, backwards = chain_pairs(settings, chain), chain_pairs(settings, chain[::-1])
    assert sorted(forwards.types.tolist()) == sorted(backwards.types.tolist())
    assert forwards.types.max() == settings.n_functions - 1
    whole = NetworkPotential(random_spline(settings), None, PotentialSpec(name="pair-spline/x"))
    with pytest.raises(ValidationError, match="vocabulary does not have"):
        whole.check_types(torch.tensor([18]))


def test_it_conforms() -> None:
    settings = PairSplineSettings()
    spline = PairSpline(settings, random_spline(settings).coefficients.detach().numpy())
    whole = NetworkPotential(spline, None, PotentialSpec(name="pair-spline/test"))
    systems = {
        f"chain-{n}": (torch.from_numpy(TYPES[:n]), torch.from_numpy(random_chains(4, n, n)))
        for n in (10, 20)
    }
    report = check_potential(whole, systems)
    report.require("a pair spline")
    smooth = next(check for check in report.checks if check.name == "smoothness")
    assert "3 Å and 12 Å" in smooth.detail


def test_a_kink_at_the_cutoff_is_noticed() -> None:
    """The check that the spline passes can fail: with a coefficient too many it does."""

    class Cut(PairSpline):
        def energy_forces_chains(self, bead_types, pos):
            energy, forces = super().energy_forces_chains(bead_types, pos)
            distance = torch.cdist(pos, pos)
            inside = (distance < 12.0).double().sum((1, 2)) / 2
            return energy + 0.01 * inside.to(energy), forces

    whole = NetworkPotential(Cut(PairSplineSettings()), None, PotentialSpec(name="cut"))
    systems = {"chain": (torch.from_numpy(TYPES[:20]), torch.from_numpy(random_chains(2, 20, 1)))}
    report = check_potential(whole, systems, checks=["interface", "smoothness"])
    assert [check.name for check in report.failed] == ["smoothness"]


def sums_of(settings: PairSplineSettings, pos: np.ndarray, forces: np.ndarray) -> NormalEquations:
    matrix, target = design_matrix(settings, TYPES[: pos.shape[1]], pos), forces.reshape(-1)
    return NormalEquations(
        matrix.T @ matrix, matrix.T @ target, float(target @ target), len(target), len(pos)
    )


def test_least_squares_find_the_potential_that_made_the_forces() -> None:
    config = as_config({"kind": "pair-spline", "name": "x", "system": "a"}, "test")
    settings = config.spline.model_copy(update={"types": "none", "n_intervals": 9})
    config = config.model_copy(update={"spline": settings})
    truth = random_spline(settings)
    types = torch.from_numpy(TYPES[:20])

    def data(seed: int) -> NormalEquations:
        pos = random_chains(150, 20, seed)
        forces = truth.energy_forces_chains(types, torch.from_numpy(pos))[1].numpy()
        return sums_of(settings, pos, forces)

    found, strength = choose(config, data(1), data(2))
    assert strength == min(config.regularisation)
    assert data(3).error(found) / data(3).square < 1e-8
    wanted = truth.coefficients.detach().numpy()
    seen = np.abs(found.reshape(wanted.shape) - wanted)[2, 1:-2]
    assert seen.max() < 1e-2


def test_noise_asks_for_more_regularisation() -> None:
    config = as_config({"kind": "pair-spline", "name": "x", "system": "a"}, "test")
    truth = random_spline(config.spline)
    types = torch.from_numpy(TYPES[:20])

    def data(n_frames: int, noise: float, seed: int) -> NormalEquations:
        pos = random_chains(n_frames, 20, seed)
        forces = truth.energy_forces_chains(types, torch.from_numpy(pos))[1].numpy()
        noisy = forces + np.random.default_rng(seed).normal(0.0, noise, forces.shape)
        return sums_of(config.spline, pos, noisy)

    validation = data(60, 0.0, 9)
    training = data(6, 5.0, 1)
    chosen, strength = choose(config, training, validation)
    assert strength > choose(config, data(60, 0.0, 2), validation)[1]
    least = solve(config, training, min(config.regularisation))
    assert validation.error(chosen) < validation.error(least)


def test_sums_of_parts_are_the_sum() -> None:
    settings = PairSplineSettings(types="none")
    pos = random_chains(12, 10, 0)
    forces = np.random.default_rng(0).normal(size=pos.shape)
    whole = sums_of(settings, pos, forces)
    parts = sums_of(settings, pos[:5], forces[:5]).plus(sums_of(settings, pos[5:], forces[5:]), 1.0)
    assert parts.matrix == pytest.approx(whole.matrix)
    assert parts.vector == pytest.approx(whole.vector)
    assert (parts.count, parts.n_frames) == (whole.count, whole.n_frames)
    c = np.random.default_rng(1).normal(size=len(whole.vector))
    matrix = design_matrix(settings, TYPES[:10], pos)
    assert whole.error(c) == pytest.approx(((matrix @ c - forces.reshape(-1)) ** 2).sum())


def test_training_on_the_sample_and_the_file(tmp_path: Path) -> None:
    data = {
        "kind": "pair-spline",
        "name": "pair-spline/chignolin-sample",
        "system": "chignolin-sample",
        "maximum_frames": 1500,
        "regularisation": [1e-3, 1e-1],
    }
    config = as_config(data, "test")
    outcome = train(config, tmp_path / "run")
    assert 0.0 < outcome.explained < 1.0
    assert outcome.systems["chignolin-sample"].n_training_frames == 1500
    path = tmp_path / "run" / "model.pt"
    model = load_model(path)
    assert isinstance(model.network, PairSpline)
    assert model.prior is not None
    assert model.spec.trained_on[0].system == "chignolin-sample"
    assert model.spec.cutoff == 12.0
    # The same again is the same file, untouched; another configuration is refused.
    stamp, kept = path.stat().st_mtime_ns, model_hash(path)
    assert train(config, tmp_path / "run") == outcome
    assert path.stat().st_mtime_ns == stamp
    other = as_config({**data, "maximum_frames": 1000}, "test")
    with pytest.raises(UsageError, match="another configuration"):
        train(other, tmp_path / "run")
    save_model(tmp_path / "copy.pt", model)
    assert model_hash(tmp_path / "copy.pt") == kept


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"regularisation": [0.0]}, "regularisation"),
        ({"spline": {"first_knot": 13.0}}, "first_knot"),
        ({"spline": {"types": "letters"}}, "types"),
        ({"systems": ["a"]}, "not both"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_wrong_settings_are_named(change: dict[str, object], told: str) -> None:
    data = {"kind": "pair-spline", "name": "x", "system": "a"}
    with pytest.raises(ValidationError, match=told):
        as_config({**data, **change}, "test")


def test_leaving_a_protein_out_takes_its_split() -> None:
    data = {"kind": "pair-spline", "name": "x", "systems": ["bba", "villin"], "left_out": "a3d"}
    config = as_config(data, "test")
    assert isinstance(config, PairSplineConfig)
    assert config.split == "lopo-a3d"
    assert config.as_training().left_out == "a3d"
