"""Samplers of single structures: what they saw, against the proteins they are tested on."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_ensemble_pipeline import quick_score
from test_sampler_pipeline import SYSTEM, trained_on
from toy_samplers import SMALL, toy_sampler, toy_structures

import cgbench.pipeline.evaluate_ensemble as module
from cgbench import registry
from cgbench.errors import UsageError, ValidationError
from cgbench.pipeline.evaluate_sampler import evaluate_sampler
from cgbench.pipeline.sampler_leaks import sampler_leak
from cgbench.pipeline.structures_task import score_structures
from cgbench.samplers import SamplerSpec, TrainedOnStructures, load_sampler, save_sampler
from cgbench.splits import sequence_identities, sequence_identity
from cgbench.splits.cath_structures import open_structures
from cgbench.train.nemo_config import NemoConfig
from cgbench.train.nemo_material import read_material
from cgbench.train.recurrent import RecurrentConfig, train_recurrent

SPLIT = "sha256:" + "0" * 64
LAMBDA = registry.system("lambda").sequence
OTHER = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ"
_LETTERS = st.text(alphabet="ACDY", min_size=1, max_size=9)


def seen(*sequences: str) -> TrainedOnStructures:
    return TrainedOnStructures.of(SPLIT, sequences, len(sequences))


@given(own=_LETTERS, others=st.lists(_LETTERS, min_size=1, max_size=6))
def test_many_alignments_are_those_of_one_by_one(own: str, others: list[str]) -> None:
    expected = [sequence_identity(own, other) for other in others]
    assert sequence_identities(own, others).tolist() == expected


def test_alignments_of_proteins_with_one_another() -> None:
    known = [one.sequence for one in registry.systems()]
    for own in known:
        expected = [sequence_identity(own, other) for other in known]
        assert np.allclose(sequence_identities(own, known), expected, atol=0)
    with pytest.raises(UsageError, match="empty"):
        sequence_identities(LAMBDA, [LAMBDA, ""])


@pytest.mark.parametrize(
    ("spec", "system", "track", "status"),
    [
        # Nothing alike: left out.
        ({"structures": seen(OTHER)}, "lambda", "leave-one-out", "none"),
        # The protein itself, a longer chain that holds it, and half of its residues.
        ({"structures": seen(OTHER, LAMBDA)}, "lambda", "sampler", "marked"),
        ({"structures": seen(OTHER + LAMBDA + OTHER)}, "lambda", "sampler", "marked"),
        ({"structures": seen(LAMBDA[:50])}, "lambda", "sampler", "marked"),
        ({"structures": seen(LAMBDA)}, "trpcage", "leave-one-out", "none"),
        # Stores and structures: both are looked at.
        ({"structures": seen(OTHER), "trained_on": (trained_on(),)}, SYSTEM, "sampler", "none"),
        ({"structures": seen(OTHER), "trained_on": (trained_on(part="test"),)}, SYSTEM,
         "sampler", "marked"),
        ({"structures": seen(OTHER), "trained_on": (trained_on("lambda"),)}, "trpcage",
         "leave-one-out", "none"),
        ({"structures": seen(LAMBDA), "trained_on": (trained_on(),)}, "lambda",
         "sampler", "marked"),
        # Nothing stated.
        ({"structures": TrainedOnStructures(split_fingerprint=SPLIT, n_domains=3)}, "lambda",
         "sampler", "unchecked"),
    ],
)  # fmt: skip
def test_sequences_are_compared_with_the_evaluated_protein(
    spec: dict[str, Any], system: str, track: str, status: str
) -> None:
    chosen, leak = sampler_leak(SamplerSpec(name="toy", **spec), system)
    assert (chosen, leak.status) == (track, status)
    if status == "unchecked":
        assert "sequences are not stated" in str(leak.reason)
    else:
        stated = spec["structures"].sequences_sha256
        assert stated in leak.checked["structures"]


def test_a_claim_is_refused_and_the_overlap_named() -> None:
    spec = SamplerSpec(name="toy", structures=seen(OTHER, LAMBDA, LAMBDA[5:70]))
    for asked in ("leave-one-out", "sampler"):
        chosen, leak = sampler_leak(spec, "lambda", asked=asked)  # type: ignore[arg-type]
        assert (chosen, leak.status) == (asked, "refused")
        assert leak.overlaps == (
            "trained on single structures of 2 of 3 sequences that are more than 40 % identical "
            "with that of lambda, the closest 100 % identical with lambda",
        )


def test_what_a_record_of_sequences_may_not_say() -> None:
    good = seen(OTHER, LAMBDA, OTHER)
    assert good.sequences == tuple(sorted((LAMBDA, OTHER)))
    data = good.model_dump()
    for wrong in (
        {"sequences_sha256": SPLIT},
        {"sequences_sha256": None},
        {"sequences": (*reversed(good.sequences),)},
        {"sequences": (OTHER, OTHER)},
        {"sequences": ("acd",)},
        {"sequences": ("",)},
    ):
        with pytest.raises(ValueError, match="sequences"):
            TrainedOnStructures.model_validate(data | wrong)


def test_trained_samplers_state_what_they_saw_and_results_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = toy_structures(tmp_path / "structures")
    _, structures = open_structures(tmp_path / "structures")
    used = {structures[name].sequence for part in ("train", "val") for name in split.parts[part]}
    settings = RecurrentConfig.model_validate({
        "name": "recurrent/toy", "network": SMALL.model_dump(), "threads": 1,
        "optimiser": {"steps": 1}, "structures": tmp_path / "structures",
    })  # fmt: skip
    train_recurrent(settings, tmp_path / "run")
    path = tmp_path / "run" / "sampler.pt"
    stated = load_sampler(path).spec.structures
    assert stated is not None
    assert set(stated.sequences) == used
    assert stated.n_domains == len(split.parts["train"])
    nemo = read_material(NemoConfig(name="nemo/toy", structures=tmp_path / "structures"))
    assert nemo.structures is not None
    assert nemo.structures.sequences == stated.sequences

    monkeypatch.setattr(module, "score", quick_score)
    monkeypatch.setattr(module, "report_runs", lambda *_, **__: None)
    result = evaluate_sampler(path, [SYSTEM], n=8, out=tmp_path / "out")
    assert result.model.spec is not None
    assert result.model.spec["structures"]["sequences_sha256"] == stated.sequences_sha256
    assert not any(one in json.dumps(result.model.spec) for one in stated.sequences)
    (system,) = result.systems
    assert system.leak is not None
    assert system.leak.status in ("none", "marked")
    assert "structures" in system.leak.checked


def test_a_track_that_was_asked_for_refuses_structures(tmp_path: Path) -> None:
    path = tmp_path / "sampler.pt"
    save_sampler(path, toy_sampler(structures=seen(OTHER, LAMBDA)))
    with pytest.raises(ValidationError, match=r"(?s)not on track leave-one-out.*100 % identical"):
        evaluate_sampler(path, ["lambda"], n=4, out=tmp_path / "run", track="leave-one-out")


def test_the_structures_task_tells_test_domains_that_were_trained_on(tmp_path: Path) -> None:
    split = toy_structures(tmp_path / "structures")
    _, structures = open_structures(tmp_path / "structures")
    tested = [
        name for part, names in split.parts.items() if part.startswith("test") for name in names
    ]
    path = tmp_path / "sampler.pt"
    save_sampler(path, toy_sampler(structures=seen(OTHER, structures[tested[0]].sequence)))
    outcome = score_structures(path, tmp_path / "structures", n=2, out=tmp_path / "out")
    assert f"another split: 1 of the {len(tested)} test domains" in outcome.notes[0]
