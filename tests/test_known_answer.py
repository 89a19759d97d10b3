"""Data from a known potential: training recovers its forces, simulation its free-energy surface.

The bounds. Teacher forces are exact and the student has the teacher's shape, so the share of the
delta forces that it explains goes to one with training; after a minute 0.99 is asked for. What is
compared with the teacher's ensemble is another finite sample: a perfect student scores like one
half of the teacher's trajectories against the other, or better, because it has twice as many. The
student's paths depend on the rounding of the machine, so it is held to the upper end of that row's
95 % interval.
"""

from pathlib import Path

import pytest
import torch

from cgbench import config
from cgbench.models import load_model
from cgbench.priors import PriorParameters
from cgbench.testing.known_answer import (
    KnownAnswer,
    KnownAnswerSettings,
    make_teacher,
    run_known_answer,
)

DISTANCES = ("w1_tic1", "w1_tic2", "fes_rmse", "rg_w1", "q_w1", "js_2d", "dihedral_js")


def run(folder: Path, settings: KnownAnswerSettings) -> KnownAnswer:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return run_known_answer(folder, settings)
    finally:
        torch.set_num_threads(threads)


def noise(answer: KnownAnswer, metric: str) -> float:
    """The upper end of what halves of the teacher's trajectories differ by."""
    high = answer.rows["md_split_half"].result.metrics[metric].hi
    assert high is not None
    return high


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> KnownAnswer:
    return run(tmp_path_factory.mktemp("known-answer"), KnownAnswerSettings())


def test_nothing_of_the_teacher_is_given_away(answer: KnownAnswer) -> None:
    """The student starts from other weights and fits a prior of its own."""
    teacher, student = make_teacher(KnownAnswerSettings().seed), load_model(answer.student)
    assert teacher.network is not None
    assert student.network is not None
    assert not torch.allclose(teacher.network.embedding.weight, student.network.embedding.weight)
    assert student.prior == config.read_model(PriorParameters, answer.student.parent / "prior.json")
    assert student.prior != teacher.prior


def test_network_matters(answer: KnownAnswer) -> None:
    """Without the network the ensemble is another one, beyond the noise."""
    assert answer.network_force > 1.0
    for metric in DISTANCES:
        prior, floor = answer.value("prior_only", metric), answer.value("md_split_half", metric)
        assert prior > 1.15 * floor, metric


def test_training_recovers_the_forces(answer: KnownAnswer) -> None:
    assert answer.explained > 0.99
    assert answer.outcome.explained > 0.99


def test_simulation_recovers_the_ensemble(answer: KnownAnswer) -> None:
    for row in ("student", "prior_only"):
        assert answer.rows[row].result.status == "ok"
        assert answer.rows[row].result.weights_status == "ok"
        assert answer.value(row, "replicas_alive") == 1.0
    for metric in DISTANCES:
        assert answer.value("student", metric) < 0.6 * answer.value("prior_only", metric), metric
        assert answer.value("student", metric) < noise(answer, metric), metric


@pytest.mark.slow
def test_twice_the_training_comes_closer(tmp_path: Path) -> None:
    answer = run(tmp_path, KnownAnswerSettings(epochs=60))
    assert answer.explained > 0.997
    for metric in DISTANCES:
        assert answer.value("student", metric) < 0.5 * answer.value("prior_only", metric), metric
        assert answer.value("student", metric) < noise(answer, metric), metric
