"""The track of variants: what counts is what is recovered where the controls unfold."""

import pytest
from toy_board import toy_hash, toy_record, toy_result, toy_submission, toy_system

from cgbench.leaderboard.model_rows import model_row
from cgbench.results.mutants import MutantsOutcome, VariantOutcome


def variants(*recovered: str, counts: bool = True) -> MutantsOutcome:
    return MutantsOutcome(
        model="toy/one", model_hash=None, screening="mutants@1", protocol="standard@1",
        window_ps=200.0, least_q=0.6, seed=1, parents=(), recovered=99, tested=99,
        variants=tuple(
            VariantOutcome(
                key=key, parent=key.partition("-")[0], pdb_id=key.partition("-")[2],
                sequence=None, mutations=None, scored_beads=None, status="stays",
                recovered=True, counts=counts,
            )
            for key in recovered
        ),
    )  # fmt: skip


def test_mutants_are_ranked_by_what_is_recovered_and_counts() -> None:
    """The totals that the outcome states are not believed, nor variants of no registry."""
    record = toy_record(track="mutants")
    reference = {"version": "v2", "fingerprints": {"bbl-1BAL": toy_hash(1)}}
    result = toy_result(toy_system("bbl-1BAL"), track="mutants", reference=reference)

    def row(outcome):
        return model_row(record, [toy_submission(result, mutants=outcome)])

    two = row(variants("bbl-1BAL", "bbl-1BAL", "lambda-3KZ3", "made-1UPP"))
    assert two.mutants.recovered == 2
    assert two.score.value == pytest.approx(2 / 11)
    assert row(variants("bbl-1BAL", counts=False)).score.value == 0.0
    assert two.group == "published · demo@1"
    with pytest.raises(ValueError, match="outcome"):
        toy_submission(result)
