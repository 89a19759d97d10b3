"""Novelty: copies, new frames and noise told apart; the row of training frames played back."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_ensembles import SYSTEM, chains
from toy_reference import NATIVE

import cgbench.pipeline.evaluate_ensemble as ensembles
from cgbench.evaluate import Ensemble, Scored, read_reference, reference_statistics
from cgbench.evaluate.geometry import pair_distances
from cgbench.evaluate.novelty import (
    TrainingFrames,
    chosen_frames,
    nearest_distances,
    novelty,
)
from cgbench.evaluate.replay import md_replay
from cgbench.pipeline import beside
from cgbench.pipeline.evaluate_ensemble import EnsembleOptions, evaluate_ensemble
from cgbench.pipeline.novelty import replay_row, training_frames
from cgbench.store import find_reference

TRAINING = TrainingFrames(chains(600, 1), np.repeat(np.arange(6), 100), "block-v1", 600)


def samples(frames, **options) -> Ensemble:
    return Ensemble.from_arrays(SYSTEM, np.array_split(frames, 8), **options)


def test_nearest_distances_are_those_of_a_loop() -> None:
    one, other = chains(7, 2, 0.5), chains(9, 3, 0.5)
    first, second = pair_distances(one), pair_distances(other)
    expected = [min(np.sqrt(np.mean((a.astype(float) - b) ** 2)) for b in second) for a in first]
    np.testing.assert_allclose(nearest_distances(one, other), expected, rtol=1e-4)
    groups = np.arange(7) % 2, np.arange(9) % 2
    apart = [
        min(
            np.sqrt(np.mean((a.astype(float) - b) ** 2))
            for b, group in zip(second, groups[1], strict=True)
            if group != own
        )
        for a, own in zip(first, groups[0], strict=True)
    ]
    np.testing.assert_allclose(nearest_distances(one, other, apart=groups), apart, rtol=1e-4)


def test_a_rotation_is_no_news() -> None:
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turned = (TRAINING.coordinates[:50] @ turn.T + 7.0).astype(np.float32)
    assert nearest_distances(turned, TRAINING.coordinates).max() < 0.02


def test_copies_new_frames_and_noise() -> None:
    copies = novelty(samples(TRAINING.coordinates[:400]), TRAINING, seed=1)
    fresh = novelty(samples(chains(400, 9)), TRAINING, seed=1)
    noise = novelty(samples(chains(400, 9, 0.35)), TRAINING, seed=1)
    assert copies.value == 0.0
    assert 0.35 < fresh.value < 0.65
    assert noise.value > 0.95
    assert fresh.lo < fresh.value < fresh.hi
    assert fresh.target == 0.5
    assert "600 of 600 training frames" in fresh.note


def test_weights_count_and_lost_samples_do_not() -> None:
    frames = np.concatenate([TRAINING.coordinates[:200], chains(200, 9, 0.35)])
    order = np.arange(400).reshape(2, 200).T.reshape(-1)
    weights = np.where(order < 200, 3.0, 1.0)
    mixed = samples(frames[order], weights=np.array_split(weights, 8))
    assert novelty(mixed, TRAINING, seed=1).value == pytest.approx(0.25, abs=0.03)
    broken = frames[order].copy()
    broken[order >= 200] = np.nan
    assert novelty(samples(broken), TRAINING, seed=1).value == 0.0


def test_where_it_has_no_meaning() -> None:
    ordered = Ensemble.from_arrays(SYSTEM, [chains(20)], frame_interval=1.0)
    assert novelty(ordered, TRAINING, seed=1).status == "n/a"
    alone = dataclasses.replace(TRAINING, trajectory=np.zeros(600, dtype=np.int64))
    assert novelty(samples(chains(40)), alone, seed=1).status == "n/a"
    lost = samples(np.full((40, 10, 3), np.nan, dtype=np.float32))
    assert novelty(lost, TRAINING, seed=1).status == "n/a"


def test_the_choice_of_frames_is_seeded() -> None:
    first = chosen_frames(10_000, 100, 1, 0)
    assert np.array_equal(first, chosen_frames(10_000, 100, 1, 0))
    assert not np.array_equal(first, chosen_frames(10_000, 100, 2, 0))
    assert (np.diff(first) > 0).all()
    assert chosen_frames(5, 100, 1, 0).tolist() == [0, 1, 2, 3, 4]


def test_training_frames_are_those_of_the_split() -> None:
    found = training_frames(SYSTEM)
    assert found is not None
    training, frames, store = found
    assert len(training.coordinates) == 10_000 < training.n_total
    some = [0, 4321, 9999]
    for index in some:
        frame = int(frames[index])
        np.testing.assert_array_equal(
            training.coordinates[index], store.coordinates(frame, frame + 1)[0]
        )
        assert training.trajectory[index] == store.trajectory[frame]
    assert training_frames("chignolin") is None
    assert NATIVE.shape == training.coordinates.shape[1:]


@pytest.mark.slow
def test_md_replay_scores_well_and_is_not_new() -> None:
    bundle = read_reference(find_reference(SYSTEM))
    row = replay_row(bundle, seed=1)
    assert row is not None
    assert row.name == "md_replay"
    assert row.result.metrics["novelty"].hi < 0.4
    assert row.result.metrics["w1_tic1"].value < 0.2


def test_md_replay_has_the_reference_s_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = read_reference(find_reference(SYSTEM))
    found = training_frames(SYSTEM)
    assert found is not None
    training, frames, _ = found
    few = slice(0, 400)
    part = TrainingFrames(
        training.coordinates[few], training.trajectory[few], training.split, training.n_total
    )
    seen: list[Ensemble] = []

    def stop(ensemble: Ensemble, *_: object, **__: object) -> None:
        seen.append(ensemble)
        raise StopIteration

    monkeypatch.setattr("cgbench.evaluate.replay.score", stop)
    with pytest.raises(StopIteration):
        md_replay(bundle, part, frames[few], seed=1)
    (ensemble,) = seen
    assert ensemble.n_frames == 400
    assert len(np.unique(np.concatenate(ensemble.weights))) > 5
    assert not ensemble.time_ordered


def test_samples_have_the_replay_beside_them_and_trajectories_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = ensembles.score
    statistics = reference_statistics(read_reference(find_reference(SYSTEM)), seed=1, n_resamples=2)
    monkeypatch.setattr(
        ensembles, "score", lambda *a, **o: score(*a, **(o | {"reference": statistics}))
    )
    monkeypatch.setattr(beside, "reference_statistics", lambda *_, **__: statistics)
    # The rows of every report, which take long and are tested with it.
    monkeypatch.setattr(beside, "reference_rows", lambda *_: [])
    made = []
    replay = beside.replay_row

    def counted(*arguments: Any, **options: Any) -> Scored | None:
        made.append(1)
        return replay(*arguments, **options)

    monkeypatch.setattr(beside, "replay_row", counted)
    np.save(tmp_path / "samples.npy", chains(320))
    for _ in range(2):
        evaluate_ensemble(tmp_path / "samples.npy", [SYSTEM], out=tmp_path / "samples")
    assert "md_replay" in (tmp_path / "samples" / "report.html").read_text()
    assert (tmp_path / "samples" / "beside" / SYSTEM / "md_replay.npz").is_file()
    # Kept beside the run; a damaged one is made again.
    assert made == [1]
    (tmp_path / "samples" / "beside" / SYSTEM / "md_replay.npz").write_bytes(b"PK")
    evaluate_ensemble(tmp_path / "samples.npy", [SYSTEM], out=tmp_path / "samples")
    assert made == [1, 1]
    ordered = EnsembleOptions(frame_interval=1.0)
    evaluate_ensemble(
        tmp_path / "samples.npy", [SYSTEM], options=ordered, out=tmp_path / "trajectories"
    )
    assert "md_replay" not in (tmp_path / "trajectories" / "report.html").read_text()
    assert made == [1, 1]
