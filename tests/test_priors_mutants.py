"""One prior of all twelve proteins, from real frames, computes variants and their controls."""

import itertools
from pathlib import Path

import mdtraj
import numpy as np
import pytest
from test_mutants import short  # noqa: F401 - a fixture
from toy_mutants import home_with_variants

from cgbench import registry
from cgbench.models import NetworkPotential, PotentialSpec, TrainedOn, save_model
from cgbench.pipeline.mutants import evaluate_mutants
from cgbench.priors import PriorData, PriorParameters, fit_transferable_prior

VARIANTS = ["homeodomain-1P7I", "proteinb-1GAB"]
PUBLISHED = [one for one in registry.systems() if one.published_key is not None]


def starting_frames(published: Path) -> list[PriorData]:
    """The 32 published start frames of each protein, all of the same weight."""
    parts = []
    for system in PUBLISHED:
        key = system.published_key
        (path,) = (published / "starting_frames").glob(f"{key}_*.xtc")
        with mdtraj.formats.XTCTrajectoryFile(str(path)) as file:
            xyz = 10.0 * file.read()[0].astype(np.float64)
        parts.append(
            PriorData.from_arrays(
                system.key, xyz, np.ones(len(xyz)), np.array(system.bead_types), 350.0
            )
        )
    return parts


@pytest.fixture(scope="module")
def prior(request: pytest.FixtureRequest) -> PriorParameters:
    return fit_transferable_prior(starting_frames(request.getfixturevalue("published_dir")))


@pytest.mark.data
def test_terms_are_those_of_proteins(prior: PriorParameters) -> None:
    """Independent: Cα atoms of a trans peptide are 3.8 Å apart, as in the published terms."""
    record = prior.transferable
    assert record is not None
    assert len(record.fitted_on) == 12
    letters = registry.bead_vocabulary().letters
    assert record.beads_from_pool == (letters["C"],)
    # By hand: neighbours in no sequence, with norleucine as leucine.
    joined = {
        frozenset(pair)
        for one in PUBLISHED
        for pair in itertools.pairwise(one.sequence.replace("X", "L"))
    }
    absent = {
        "-".join(map(str, sorted((letters[first], letters[second]))))
        for first, second in itertools.combinations_with_replacement(sorted(letters), 2)
        if frozenset(pair.replace("X", "L") for pair in (first, second)) not in joined
    }
    assert set(record.bonds_from_pool) == absent
    assert record.pooled_bond is not None
    assert record.pooled_bond.r0 == pytest.approx(3.82, abs=0.03)
    assert 20 < record.pooled_bond.k < 200
    assert all(500 < epsilon < 10_000 for epsilon in prior.repulsion.values())


@pytest.mark.data
def test_variants_and_controls_are_tested_with_it(
    prior: PriorParameters,
    short: None,  # noqa: F811
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    home = home_with_variants(tmp_path / "home", request.getfixturevalue("published_dir"))
    trained = tuple(
        TrainedOn(system=one.key, split_id="block-v1", split_fingerprint="", store_fingerprint="")
        for one in PUBLISHED
    )
    spec = PotentialSpec(name="prior-of-twelve", trained_on=trained)
    save_model(tmp_path / "model.pt", NetworkPotential(None, prior, spec))
    outcome = evaluate_mutants(
        tmp_path / "model.pt", VARIANTS, protocol=None, out=tmp_path / "run", home=home
    )
    # Without a network nothing holds a fold; what counts is that all of them were simulated.
    assert {one.key: one.status for one in outcome.variants} == dict.fromkeys(VARIANTS, "unfolds")
    for parent in outcome.parents:
        assert {one.name for one in parent.controls} == {"wild-type", "shuffled", "poly-glycine"}
        assert {one.status for one in parent.controls} == {"unfolds"}
