"""Leaving a protein out leaves out everything like it, by sequence and not by name."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_splits import Index, Metadata
from test_splits import settings as split_settings
from typer.testing import CliRunner

from cgbench import registry
from cgbench.cli.main import app
from cgbench.errors import UsageError, ValidationError
from cgbench.splits import (
    check_split,
    find_problems,
    make_split,
    relation,
    relations,
    sequence_identity,
    write_split,
)

PUBLISHED = [one.key for one in registry.systems() if one.published_key is not None]
SAMPLES = ("chignolin-sample", "chignolin-sample-v2")
sequences = st.text(alphabet="ACDEFGHIKL", min_size=1, max_size=30)


def test_the_threshold_is_in_the_registry_with_its_source() -> None:
    rule = registry.sequence_identity()
    assert rule.threshold == 0.4
    assert set(rule.source.values()) == {"chosen here"}


@given(first=sequences, second=sequences)
@settings(max_examples=60, deadline=None)
def test_identity_is_that_of_an_independent_aligner(first: str, second: str) -> None:
    """The best alignments of Biopython, with the same scores: the one with most identical pairs."""
    aligner = pytest.importorskip("Bio.Align").PairwiseAligner(mode="global")
    rule = registry.sequence_identity()
    aligner.match_score, aligner.mismatch_score = rule.match, rule.mismatch
    aligner.open_gap_score = aligner.extend_gap_score = rule.gap
    aligner.end_gap_score = 0.0
    best = 0
    for number, found in enumerate(aligner.align(first, second)):
        best = max(best, found.counts().identities)
        if number > 2000:
            return
    identity = sequence_identity(first, second)
    assert identity == pytest.approx(best / min(len(first), len(second)))
    assert sequence_identity(second, first) == identity


@given(sequence=sequences, data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_protein_and_any_part_of_it_are_identical(sequence: str, data: Any) -> None:
    start = data.draw(st.integers(0, len(sequence) - 1))
    stop = data.draw(st.integers(start + 1, len(sequence)))
    assert sequence_identity(sequence, sequence) == 1.0
    assert sequence_identity(sequence, sequence[start:stop]) == 1.0


def test_an_empty_sequence_is_refused() -> None:
    with pytest.raises(UsageError, match="empty sequence"):
        sequence_identity("", "A")


@pytest.mark.parametrize("left_out", PUBLISHED)
def test_what_is_left_out_with_each_protein(left_out: str) -> None:
    """All twelve, their variants and the samples; the expectation is by hand."""
    expected = {left_out: "itself"}
    expected |= {one.key: "variant" for one in registry.mutants() if one.parent == left_out}
    if left_out == "chignolin":
        expected |= dict.fromkeys(SAMPLES, "identical")
    found = relations(left_out)
    assert {one.system for one in found} == {
        *(one.key for one in registry.systems()),
        *(one.key for one in registry.mutants()),
    }
    assert {one.system: one.kind for one in found if one.excluded} == expected
    assert all(one.reason for one in found)


def test_a_store_of_another_name_is_told_by_its_sequence() -> None:
    own = registry.system("lambda").sequence
    assert relation("lambda", "my-protein", own).kind == "identical"
    assert relation("lambda", "my-protein", own[20:60]).kind == "similar"
    # 45 of 80 residues are others.
    changed = "".join("C" if i % 16 < 9 else letter for i, letter in enumerate(own))
    similar = relation("lambda", "my-protein", changed)
    assert (similar.kind, similar.identity) == ("similar", pytest.approx(0.4375))
    assert "44 % identical with lambda, more than 40 %" in similar.reason
    assert relation("lambda", "my-protein", "C" * 80).kind == "unrelated"
    with pytest.raises(UsageError, match="my-protein"):
        relation("lambda", "my-protein")


def test_variants_without_a_known_sequence_go_with_their_parent() -> None:
    assert registry.mutant("homeodomain-1DU0").sequence is None
    assert relation("homeodomain", "homeodomain-1DU0").kind == "variant"
    other = relation("lambda", "homeodomain-1DU0")
    assert other.kind == "unrelated"
    assert other.identity == relation("lambda", "homeodomain").identity


def index(system: str, sequence: str) -> Index:
    return Index([900] * 20, Metadata(system, sequence))


@pytest.mark.parametrize("system", ["chignolin", *SAMPLES, "renamed"])
def test_the_same_sequence_never_lands_in_training(system: str) -> None:
    store = index(system, registry.system("chignolin").sequence)
    split = make_split("lopo-chignolin", store, split_settings())
    check_split(split, store)
    assert {name: len(split.frames(name)) for name in split.part_names} == {
        "train": 0,
        "val": 0,
        "test": 18_000,
    }
    why = split.settings.excluded_because
    assert why == (None if system == "chignolin" else "same sequence as chignolin")
    elsewhere = make_split("lopo-lambda", store, split_settings())
    assert len(elsewhere.frames("train")) > 0


def test_a_split_made_by_name_alone_is_refused() -> None:
    """As earlier versions made it: the sample trains although chignolin is left out."""
    sequence = registry.system("chignolin").sequence
    by_name = make_split("lopo-chignolin", index("other", "C" * 10), split_settings())
    split = by_name.model_copy(update={"system": "chignolin-sample"})
    problems = find_problems(split, index("chignolin-sample", sequence))
    assert problems == ["chignolin-sample must not be in train, val: same sequence as chignolin"]


def test_splits_of_other_proteins_keep_their_fingerprint() -> None:
    """The reason is null for those, and nulls take no part in the fingerprint."""
    split = make_split(
        "lopo-lambda", index("bba", registry.system("bba").sequence), split_settings()
    )
    plain = split.model_dump(mode="json", exclude_none=True)
    assert "excluded_because" not in plain["settings"]


def run(*words: str) -> Any:
    return CliRunner().invoke(app, ["splits", *words])


def test_commands_make_all_and_say_what_is_excluded_and_why(tmp_path: Path) -> None:
    home = ["--home", str(tmp_path)]
    made = json.loads(run("make", *SAMPLES, "--split", "lopo", "--json", *home).output)
    assert len(made) == 2 * len(PUBLISHED)
    excluded = {(one["id"], one["system"]) for one in made if one["excluded_because"]}
    assert excluded == {("lopo-chignolin", sample) for sample in SAMPLES}
    one = json.loads(run("make", SAMPLES[0], "--split", "lopo-bba", "--json", *home).output)
    assert one["id"] == "lopo-bba"

    told = json.loads(run("check", "--split", "lopo-chignolin", "--json", *home).output)
    rows = {row["system"]: row for row in told["systems"]}
    assert [key for key, row in rows.items() if row["excluded"]] == ["chignolin", *SAMPLES]
    assert rows["chignolin-sample"]["reason"] == "same sequence as chignolin"
    assert rows["chignolin-sample"]["split"].endswith("lopo-chignolin.json")
    assert rows["proteing"]["identity"] == pytest.approx(0.4)
    everything = json.loads(run("check", "--split", "lopo", "--json", *home).output)
    assert [one["left_out"] for one in everything] == PUBLISHED
    shown = run("check", "--split", "lopo", *home).output
    assert "homeodomain-1P7I" in shown
    assert "variant of homeodomain, 98 %" in " ".join(shown.split())
    single = json.loads(
        run("check", SAMPLES[0], "--split", "lopo-chignolin", "--json", *home).output
    )
    assert (single["excluded"], single["valid"]) == (True, True)


def test_commands_refuse_what_makes_no_sense_and_find_a_leak(tmp_path: Path) -> None:
    home = ["--home", str(tmp_path)]
    for words in (
        ["check"],
        ["make", *SAMPLES, "--out", "x.json"],
        ["make", SAMPLES[0], "--split", "lopo", "--out", "x.json"],
        ["check", "--split", "lopo-nothing"],
    ):
        assert isinstance(run(*words, *home).exception, UsageError)
    run("make", SAMPLES[0], "--split", "lopo-bba", *home)
    path = tmp_path / "splits" / SAMPLES[0]
    leaking = json.loads((path / "lopo-bba.json").read_text())
    leaking["id"], leaking["settings"]["left_out"] = "lopo-chignolin", "chignolin"
    (path / "lopo-chignolin.json").write_text(json.dumps(leaking))
    for words in (["--split", "lopo-chignolin"], [SAMPLES[0], "--split", "lopo-chignolin"]):
        caught = run("check", *words, *home).exception
        assert isinstance(caught, ValidationError)
        assert "same sequence as chignolin" in caught.message


def test_a_file_without_its_store_is_checked_too(tmp_path: Path) -> None:
    """Data can be split and then moved away; that they are trained on must still be told."""
    store = index("bba", registry.system("bba").sequence)
    good = make_split("lopo-homeodomain", store, split_settings())
    leaking = good.model_copy(update={"system": "homeodomain"})
    write_split(tmp_path / "splits" / "homeodomain" / "lopo-homeodomain.json", leaking)
    caught = run("check", "--split", "lopo-homeodomain", "--home", str(tmp_path)).exception
    assert isinstance(caught, ValidationError)
    assert "the left-out protein" in caught.message
