"""Ensembles without a Markov state model to speak of: a status with its reason, no exception."""

import numpy as np
import pytest
from toy_paper import SHAPES, THREE, embedded, hidden, three_state_bundle, three_state_ensemble

from cgbench.errors import ValidationError
from cgbench.evaluate import Ensemble
from cgbench.evaluate.paper import paper_analysis, paper_study


def degenerate(trajectories, alive=None):
    ensemble = Ensemble.from_arrays(
        "chignolin-sample", trajectories, frame_interval=2.0, alive_until=alive
    )
    found = paper_study(ensemble, three_state_bundle())
    assert found.analysis.status == "degenerate"
    assert found.analysis.reference_status == "ok"
    assert found.fes is None or found.analysis.table is not None
    return found.analysis


def test_a_model_whose_replicas_all_died():
    frames = embedded(hidden(THREE, 6, 100, 1), SHAPES, 1)
    found = degenerate(list(frames), alive=[0] * 6)
    assert "no frame is alive" in found.reason
    assert "0% of the frames are alive" in found.reason
    assert found.alive_fraction == 0.0


def test_no_trajectories_at_all():
    assert "no frame is alive" in degenerate([]).reason


def test_a_single_trajectory_has_no_spread():
    states = hidden(THREE, 1, 4000, seed=1)
    ensemble = Ensemble.from_arrays(
        "chignolin-sample",
        list(embedded(states, SHAPES, 1)),
        frame_interval=2.0,
        network_energy=list(states * -1.0),
    )
    found = paper_analysis(ensemble, three_state_bundle())
    assert found.status == "ok"
    assert found.energy.native_is_lowest_energy
    assert found.energy.gap_spread is None
    assert all(row.probability_spread is None for row in found.table.macrostates)


def test_a_structure_that_never_moves():
    found = degenerate([np.repeat(SHAPES[2][None], 100, axis=0)] * 16)
    assert "distinct" in found.reason
    assert "100% of the frames are alive" in found.reason


def test_trajectories_too_short_for_a_transition():
    found = degenerate(list(embedded(np.zeros((300, 1), dtype=int), SHAPES, 1)))
    assert "no transition" in found.reason


def test_trajectories_that_never_return_have_one_connected_state():
    # Every trajectory walks through shapes of its own and never visits one twice.
    scale = np.linspace(0.8, 1.25, 600)[:, None, None]
    found = degenerate([(SHAPES[0][None] * scale).astype(np.float32)])
    assert "one microstate" in found.reason
    assert 0.0 < found.connected_fraction < 0.1


@pytest.mark.parametrize(
    "error", [ValueError("not reversible"), np.linalg.LinAlgError("singular"), ValidationError("x")]
)
def test_macrostates_that_cannot_be_split(monkeypatch, error):
    def refuse(model, n_sets):
        raise error

    monkeypatch.setattr("cgbench.evaluate.paper.model.metastable_sets", refuse)
    found = paper_analysis(three_state_ensemble(n_frames=100)[1], three_state_bundle())
    assert found.status == "degenerate"
    assert "cannot be divided" in found.reason
    assert found.connected_fraction > 0.9


def test_fewer_macrostates_than_asked_for_are_shown_but_not_ok(monkeypatch):
    def halves(model, n_sets):
        return (np.arange(len(model.states)) % 2).astype(np.int64)

    monkeypatch.setattr("cgbench.evaluate.paper.model.metastable_sets", halves)
    found = paper_analysis(three_state_ensemble()[1], three_state_bundle())
    assert found.status == "degenerate"
    assert "2 of 3" in found.reason
    assert len(found.table.macrostates) == 2


def test_one_macrostate_for_everything(monkeypatch):
    monkeypatch.setattr(
        "cgbench.evaluate.paper.model.metastable_sets",
        lambda model, n_sets: np.zeros(len(model.states), dtype=np.int64),
    )
    found = paper_analysis(three_state_ensemble(n_frames=100)[1], three_state_bundle())
    assert found.status == "degenerate"
    assert found.table is None


def test_a_model_that_never_folds_says_so():
    # Between the two shapes that are not native.
    states = hidden(np.array([[0.96, 0.04], [0.04, 0.96]]), 24, 300, seed=1)
    ensemble = Ensemble.from_arrays(
        "chignolin-sample", list(embedded(states, SHAPES[:2], 1)), frame_interval=2.0
    )
    found = paper_analysis(ensemble, three_state_bundle())
    assert found.status == "ok"
    assert found.table.macrostates[found.table.native].folded_fraction == 0.0
    assert "closest to native" in found.table.label(found.table.native)
    assert any("0% of it is folded" in note for note in found.notes)
    assert found.transitions.native_from_unfolded == 24
    assert found.transitions.folded_from_unfolded == 0
