"""Priors of several systems: known parameters come back, and every sequence can be built."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_priors_fit import ENERGY, TERMS, bonded_chains, repelled_pairs, sample_bond
from toy_priors import random_chains, random_parameters

from cgbench import config, registry
from cgbench.errors import UsageError, ValidationError
from cgbench.priors import (
    Prior,
    PriorData,
    PriorFitSettings,
    PriorParameters,
    fit_priors,
    fit_transferable_prior,
    plot_transferable_prior,
    pooled_histograms,
)

TEMPERATURE = 350.0
BONDS = PriorFitSettings(terms=("bonds",))
VOCABULARY = sorted(registry.bead_vocabulary().psf_types)


def data(system: str, chains: NDArray[np.float64], types: list[int]) -> PriorData:
    return PriorData.from_arrays(system, chains, np.ones(len(chains)), np.array(types), TEMPERATURE)


def straight(*lengths: NDArray[np.float64]) -> NDArray[np.float64]:
    """Chains along one axis with the given bond lengths."""
    chains = np.zeros((len(lengths[0]), len(lengths) + 1, 3))
    chains[:, 1:, 0] = np.cumsum(np.column_stack(lengths), axis=1)
    return chains


def bonds_of(k: float, r0: float, n: int, seed: int) -> NDArray[np.float64]:
    return sample_bond(k, r0, n, np.random.default_rng(seed))


def test_bonds_of_several_systems_come_back_without_direction() -> None:
    parts = [
        data(
            "one",
            straight(bonds_of(60, 3.80, 80_000, 1), bonds_of(100, 3.85, 80_000, 2)),
            [1, 4, 5],
        ),
        data("two", straight(bonds_of(60, 3.80, 80_000, 3)), [4, 1]),
        data("three", straight(bonds_of(30, 3.75, 80_000, 4)), [8, 8]),
    ]
    prior = fit_transferable_prior(parts, BONDS)
    for key, k, r0 in (("1-4", 60, 3.80), ("4-5", 100, 3.85), ("8-8", 30, 3.75)):
        assert prior.bonds[key].k == pytest.approx(k, rel=0.02)
        assert prior.bonds[key].r0 == pytest.approx(r0, abs=1.5e-3)
        assert prior.bonds["-".join(reversed(key.split("-")))] == prior.bonds[key]
    assert prior.repulsion == {}
    assert prior.dihedrals == ()
    record = prior.transferable
    assert record is not None
    assert [origin.system for origin in record.fitted_on] == ["one", "three", "two"]
    assert {origin.sequence for origin in record.fitted_on} == {"AYD", "YA", "PP"}
    # Every pair of the vocabulary is there, and those that did not occur are named once.
    assert len(prior.bonds) == len(VOCABULARY) ** 2
    assert "1-1" in record.bonds_from_pool
    assert not {"1-4", "4-1", "4-5", "8-8"} & set(record.bonds_from_pool)
    assert len(record.bonds_from_pool) == len(VOCABULARY) * (len(VOCABULARY) + 1) // 2 - 3
    assert all(prior.bonds[key] == record.pooled_bond for key in record.bonds_from_pool)


@pytest.mark.parametrize(("balance", "share"), [("frames", 0.8), ("systems", 0.5)])
def test_systems_count_by_frames_or_alike(balance: str, share: float) -> None:
    parts = [
        data("large", straight(bonds_of(80, 3.80, 80_000, 5)), [2, 3]),
        data("small", straight(bonds_of(80, 3.82, 20_000, 6)), [3, 2]),
    ]
    prior = fit_transferable_prior(parts, BONDS, balance=balance)  # type: ignore[arg-type]
    expected = share * 3.80 + (1 - share) * 3.82
    assert prior.bonds["2-3"].r0 == pytest.approx(expected, abs=1.2e-3)
    assert prior.transferable is not None
    assert prior.transferable.balance == balance


def test_weights_of_a_system_are_among_its_own_frames() -> None:
    lengths = [bonds_of(80, r0, 40_000, 7) for r0 in (3.80, 3.84)]
    parts = [data(name, straight(one), [2, 3]) for name, one in zip("ab", lengths, strict=True)]
    heavy = PriorData.from_arrays(
        "b", straight(lengths[1]), np.full(40_000, 1e6), np.array([2, 3]), TEMPERATURE
    )
    one = fit_transferable_prior(parts, BONDS)
    other = fit_transferable_prior([parts[0], heavy], BONDS)
    assert other.bonds["2-3"].r0 == pytest.approx(one.bonds["2-3"].r0, abs=1e-9)


def test_repulsion_is_by_bead_type_and_shared_with_norleucine() -> None:
    fit = PriorFitSettings(terms=("repulsion",), repulsion_shared_count=0.0)
    parts = [
        data("first", repelled_pairs(1500.0, 300_000, 8), [1, 4, 1]),
        data("second", repelled_pairs(4000.0, 300_000, 9), [21, 4, 21]),
    ]
    prior = fit_transferable_prior(parts, fit)
    record = prior.transferable
    assert record is not None
    assert record.pooled_repulsion is not None
    assert prior.repulsion[1] == pytest.approx(1500.0, rel=0.06)
    assert prior.repulsion[21] == pytest.approx(4000.0, rel=0.06)
    assert prior.repulsion[17] == prior.repulsion[21]
    assert prior.repulsion[1] < record.pooled_repulsion < prior.repulsion[21]
    # Tyrosine occurs, if never near another bead; tryptophan does not occur at all.
    assert prior.repulsion[4] == pytest.approx(record.pooled_repulsion, rel=1e-9)
    assert prior.repulsion[7] == record.pooled_repulsion
    assert 7 in record.beads_from_pool
    assert not {1, 4, 17, 21} & set(record.beads_from_pool)
    assert set(prior.repulsion) == set(VOCABULARY)


def test_dihedrals_are_one_set_of_all_systems() -> None:
    fit = PriorFitSettings(terms=("dihedrals",))
    parts = [
        data(name, bonded_chains(90_000, 10 + i, TERMS), [1, 4, 4, 8])
        for i, name in enumerate("ab")
    ]
    (found,) = fit_transferable_prior(parts, fit).dihedrals
    assert found.types is None
    for term, expected in zip(found.terms, TERMS, strict=True):
        assert term.k == pytest.approx(expected.k / 2, rel=0.03)
        assert term.gamma == pytest.approx(expected.gamma, abs=2.0)


def test_one_system_without_direction_has_the_prior_of_that_system() -> None:
    """The same frames and formulas; only the weights are summed in another order."""
    chains = bonded_chains(20_000, 12, TERMS)
    fit = PriorFitSettings(terms=("bonds", "dihedrals"))
    own = fit_priors(chains, np.ones(len(chains)), np.array([1, 4, 4, 8]), TEMPERATURE, fit)
    prior = fit_transferable_prior([data("a", chains, [1, 4, 4, 8])], fit)
    for key, bond in own.bonds.items():
        assert prior.bonds[key].k == pytest.approx(bond.k, rel=1e-9)
    for term, expected in zip(prior.dihedrals[0].terms, own.dihedrals[0].terms, strict=True):
        assert term.k == pytest.approx(expected.k, rel=1e-9)


def test_order_of_systems_does_not_matter_and_blocks_hardly() -> None:
    chains = [bonded_chains(4_000, 13 + i, TERMS) for i in range(3)]
    parts = [data(f"s{i}", one, [1, 4, 4, 8]) for i, one in enumerate(chains)]
    fit = PriorFitSettings(terms=("bonds", "dihedrals"))
    prior = fit_transferable_prior(parts, fit)
    assert fit_transferable_prior(parts[::-1], fit).fingerprint == prior.fingerprint
    pieces = PriorData(
        system="s0",
        bead_types=np.array([1, 4, 4, 8]),
        temperature=TEMPERATURE,
        weights=np.ones(4_000),
        blocks=lambda: np.array_split(chains[0], 7),
    )
    found = fit_transferable_prior([pieces, *parts[1:]], fit)
    assert found.bonds["1-4"].k == pytest.approx(prior.bonds["1-4"].k, rel=1e-9)
    again = fit_transferable_prior(pooled_histograms(parts, fit), fit)
    assert again.fingerprint == prior.fingerprint


@pytest.fixture(scope="module")
def complete() -> PriorParameters:
    parts = [
        data("near", repelled_pairs(1500.0, 60_000, 20), [1, 4, 1]),
        data("chain", bonded_chains(20_000, 21, TERMS), [1, 4, 4, 8]),
    ]
    return fit_transferable_prior(parts)


@given(types=st.lists(st.sampled_from(VOCABULARY), min_size=4, max_size=40))
@settings(max_examples=40, deadline=None)
def test_any_sequence_of_the_vocabulary_can_be_built(
    complete: PriorParameters, types: list[int]
) -> None:
    prior = Prior(complete, types)
    chain = torch.tensor(random_chains(22, 1, 40))[:, : len(types)]
    energy, forces = prior.energy_forces(chain)
    assert torch.isfinite(energy).all()
    assert torch.isfinite(forces).all()


def test_all_proteins_and_mutants_can_be_built(complete: PriorParameters) -> None:
    sequences = [one.sequence for one in registry.systems()]
    sequences += [one.sequence for one in registry.mutants() if one.sequence is not None]
    for sequence in sequences:
        Prior(complete, registry.bead_vocabulary().types(sequence))


def test_a_transferable_prior_survives_its_file(complete: PriorParameters, tmp_path: Path) -> None:
    config.write_model(tmp_path / "prior.json", complete)
    found = config.read_model(PriorParameters, tmp_path / "prior.json")
    assert found == complete
    assert found.fingerprint == complete.fingerprint
    assert found.transferable == complete.transferable


def test_priors_of_one_system_keep_file_and_fingerprint(tmp_path: Path) -> None:
    """The fingerprint is that of the first version of the format."""
    prior = random_parameters(47)
    assert prior.fingerprint == (
        "sha256:efc5aacb8c2d8b3713941cd4b7189da9365b14f9eee9089b2512a3c5fbff087c"
    )
    config.write_model(tmp_path / "prior.json", prior)
    assert "transferable" not in (tmp_path / "prior.json").read_text()
    assert config.read_model(PriorParameters, tmp_path / "prior.json") == prior


def test_what_cannot_be_fitted_together_is_refused() -> None:
    chains = straight(bonds_of(80, 3.8, 200, 23))
    good = data("a", chains, [1, 4])
    with pytest.raises(UsageError, match="none"):
        fit_transferable_prior([], BONDS)
    with pytest.raises(UsageError, match="each once"):
        fit_transferable_prior([good, good], BONDS)
    with pytest.raises(UsageError, match="prior without a: the data hold a"):
        fit_transferable_prior([good], BONDS, left_out="a")
    cold = PriorData.from_arrays("b", chains, np.ones(200), np.array([1, 4]), 300.0)
    with pytest.raises(ValidationError, match=r"a 350, b 300"):
        fit_transferable_prior([good, cold], BONDS)
    with pytest.raises(ValidationError, match="bead type 18 at position 2 is none"):
        fit_transferable_prior([data("a", chains, [1, 18])], BONDS)
    with pytest.raises(ValidationError, match="effective lengths"):
        fit_transferable_prior([data("a", 3 * chains, [1, 4])], BONDS)
    with pytest.raises(ValidationError, match="coordinates do not fit"):
        fit_transferable_prior([data("a", chains, [1, 4, 4])], BONDS)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.zeros(200), "not a distribution"),
        (np.full(200, -1.0), "not a distribution"),
        (np.full(200, math.nan), "not a distribution"),
        (np.ones(199), "one weight for each frame"),
        (np.ones(201), "one weight for each frame"),
    ],
)
def test_wrong_weights_are_refused(weights: NDArray[np.float64], message: str) -> None:
    chains = straight(bonds_of(80, 3.8, 200, 24))
    part = PriorData.from_arrays("a", chains, weights, np.array([1, 4]), TEMPERATURE)
    with pytest.raises(ValidationError, match=message):
        fit_transferable_prior([part], BONDS)


def test_frames_that_are_not_finite_are_refused_unless_without_weight() -> None:
    chains = straight(bonds_of(80, 3.8, 200, 25))
    kept = fit_transferable_prior([data("a", chains[1:], [1, 4])], BONDS)
    chains[0] = np.nan
    with pytest.raises(ValidationError, match="not finite"):
        fit_transferable_prior([data("a", chains, [1, 4])], BONDS)
    weights = np.ones(200)
    weights[0] = 0.0
    part = PriorData.from_arrays("a", chains, weights, np.array([1, 4]), TEMPERATURE)
    assert fit_transferable_prior([part], BONDS) == kept


def test_the_figure_shows_the_pairs_of_all_systems() -> None:
    parts = [
        data("a", bonded_chains(3_000, 26, TERMS), [1, 4, 4, 8]),
        data("b", bonded_chains(3_000, 27, TERMS), [8, 4, 5, 1]),
    ]
    fit = PriorFitSettings(terms=("bonds", "dihedrals"))
    pooled = pooled_histograms(parts, fit)
    prior = fit_transferable_prior(pooled, fit)
    figure = plot_transferable_prior(prior, pooled, fit)
    titles = [panel.get_title() for panel in figure.axes if panel.get_title()]
    assert titles[0] == "all dihedrals"
    assert len(titles) == 1 + 5
    assert "bond TYR–PRO" in titles
    with pytest.raises(ValidationError, match="fitted to other data"):
        plot_transferable_prior(prior, parts[:1], fit)
    own = fit_priors(
        bonded_chains(3_000, 28, TERMS), np.ones(3_000), np.array([1, 4, 4, 8]), 350.0, fit
    )
    with pytest.raises(ValidationError, match="not fitted to several"):
        plot_transferable_prior(own, parts, fit)


def test_energy_of_the_pooled_bond_is_that_of_all_lengths() -> None:
    """Independent: mean and variance of all lengths together, divided by r²."""
    lengths = [bonds_of(60, 3.80, 60_000, 29), bonds_of(60, 3.83, 60_000, 30)]
    parts = [
        data(n, straight(one), [t, t]) for n, one, t in zip("ab", lengths, (1, 4), strict=True)
    ]
    record = fit_transferable_prior(parts, BONDS).transferable
    assert record is not None
    assert record.pooled_bond is not None
    together = np.concatenate(lengths)
    mean = np.average(together, weights=together**-2.0)
    variance = np.average((together - mean) ** 2, weights=together**-2.0)
    assert record.pooled_bond.r0 == pytest.approx(mean, abs=1e-3)
    assert record.pooled_bond.k == pytest.approx(ENERGY / (2 * variance), rel=0.02)
