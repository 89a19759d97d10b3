"""The conformance suite of samplers on good ones, and on samplers with one fault each."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_samplers import SMALL, toy_sampler
from typer.testing import CliRunner

from cgbench.cli.main import app
from cgbench.errors import UsageError, ValidationError
from cgbench.evaluate import Ensemble
from cgbench.evaluate.sequence_match import sequence_of
from cgbench.models import TrainedOn
from cgbench.samplers import (
    LearnedSampler,
    SamplerConformanceReport,
    SamplerSpec,
    check_sampler,
    save_sampler,
)
from cgbench.samplers.conformance import SAMPLER_CHECKS, equal_frequencies
from cgbench.samplers.recurrent import RecurrentNetwork
from cgbench.testing.conformance import SamplerConformance

SYSTEMS = ("chignolin", "trpcage")
#: Everything that is not a time.
QUICK = tuple(name for name in SAMPLER_CHECKS if name != "throughput")


def chains(n: int, length: int, rng: np.random.Generator) -> np.ndarray:
    """Random walks with steps of 3.8 Å, one after the other, so that the first ones stay."""
    steps = rng.normal(size=(n, length, 3))
    return (3.8 * steps / np.linalg.norm(steps, axis=2, keepdims=True)).cumsum(axis=1)


class Walks:
    """A sampler of the Python contract alone."""

    spec = SamplerSpec(name="walks")

    def frames(self, length: int, n: int, seed: int) -> np.ndarray:
        return chains(n, length, np.random.default_rng(seed))

    def sample(self, system: str, n: int, *, temperature: float | None, seed: int) -> Ensemble:
        length = len(sequence_of(system))
        return Ensemble.from_arrays(system, [self.frames(length, n, seed)])


def failures(sampler: Any, systems: tuple[str, ...] = SYSTEMS) -> set[str]:
    report = check_sampler(sampler, systems, checks=QUICK)
    assert not report.passed
    return {one.name for one in report.failed}


def walks(frames: Callable[..., np.ndarray]) -> Any:
    """Walks with another way to draw."""
    made = Walks()
    made.frames = lambda length, n, seed: frames(n, length, seed)  # type: ignore[method-assign]
    return made


@pytest.mark.parametrize("sampler", [toy_sampler(), Walks()], ids=["file", "python"])
def test_a_good_sampler_passes_everything(sampler: Any) -> None:
    report = check_sampler(sampler, SYSTEMS)
    assert report.passed, report.failed
    assert [one.name for one in report.checks] == list(SAMPLER_CHECKS)
    assert report.checks[-1].value is not None
    assert report.checks[-1].value > 1
    assert SamplerConformanceReport.model_validate_json(report.model_dump_json()) == report
    report.require("sampler.pt")


def test_a_network_of_profiles_is_checked_with_and_without_them() -> None:
    settings = SMALL.model_copy(update={"features": "profile"})
    torch.manual_seed(1)
    profiles = {key: equal_frequencies(len(sequence_of(key))) for key in SYSTEMS}
    good = LearnedSampler(RecurrentNetwork(settings).eval(), SamplerSpec(name="p"), profiles)
    report = check_sampler(good, SYSTEMS, checks=QUICK)
    assert report.passed, report.failed
    without = LearnedSampler(good.network, good.spec)
    assert failures(without) == {"interface"}

    class Careless(LearnedSampler):
        def structures(self, sequence: str, n: int, **options: Any) -> Any:
            usual = equal_frequencies(len(sequence))
            return super().structures(sequence, n, **(options | {"profile": usual}))

    assert failures(Careless(good.network, good.spec)) == {"profiles"}


def test_not_a_number() -> None:
    def fault(n: int, length: int, seed: int) -> np.ndarray:
        frames = chains(n, length, np.random.default_rng(seed))
        frames[1, 2] = np.nan
        return frames

    assert failures(walks(fault)) == {"finite"}


def test_bonds_that_are_none() -> None:
    def stretched(n: int, length: int, seed: int) -> np.ndarray:
        return 2.0 * chains(n, length, np.random.default_rng(seed))

    assert failures(walks(stretched)) == {"bonds"}


def test_seeds_without_meaning() -> None:
    own = np.random.default_rng(1)

    def drawn_on(n: int, length: int, seed: int) -> np.ndarray:
        return chains(n, length, own)

    assert {"repeatable", "first_samples", "global_state"} == failures(walks(drawn_on))

    def same(n: int, length: int, seed: int) -> np.ndarray:
        return chains(n, length, np.random.default_rng(5))

    assert failures(walks(same)) == {"seeds"}

    def one(n: int, length: int, seed: int) -> np.ndarray:
        return np.repeat(chains(1, length, np.random.default_rng(5)), n, axis=0)

    assert check_sampler(walks(one), SYSTEMS, checks=QUICK).passed


def test_samples_that_depend_on_their_number() -> None:
    def fault(n: int, length: int, seed: int) -> np.ndarray:
        return chains(n, length, np.random.default_rng([seed, n]))

    assert failures(walks(fault)) == {"first_samples"}


def test_memory_of_earlier_draws() -> None:
    class Cached(Walks):
        def __init__(self) -> None:
            self.kept: dict[int, np.ndarray] = {}
            self.last = 0

        def frames(self, length: int, n: int, seed: int) -> np.ndarray:
            shift, self.last = (self.last != seed) * 0.01, seed
            return super().frames(length, n, seed) * (1.0 + shift)

    assert "repeatable" in failures(Cached())


def seeding(n: int, length: int, seed: int) -> np.ndarray:
    np.random.seed(seed)  # noqa: NPY002 - the fault
    return chains(n, length, np.random.default_rng(seed))


def drawing(n: int, length: int, seed: int) -> np.ndarray:
    random.random()
    return chains(n, length, np.random.default_rng(seed))


def torch_drawing(n: int, length: int, seed: int) -> np.ndarray:
    torch.rand(1)
    return chains(n, length, np.random.default_rng(seed))


@pytest.mark.parametrize("fault", [seeding, drawing, torch_drawing])
def test_global_random_numbers(fault: Callable[..., np.ndarray]) -> None:
    before = torch.get_rng_state(), random.getstate()
    assert failures(walks(fault)) == {"global_state"}
    if fault is seeding:
        # The suite itself leaves everything as it was.
        assert torch.equal(torch.get_rng_state(), before[0])
        assert random.getstate() == before[1]


def test_what_has_to_be_refused() -> None:
    class Everything(Walks):
        def sample(self, system: str, n: int, **options: Any) -> Ensemble:
            known = system if system in SYSTEMS else "chignolin"
            return super().sample(known, n, **options)

    assert failures(Everything()) == {"unknown_system"}

    class Cold(Walks):
        def sample(self, system: str, n: int, *, temperature: Any, seed: int) -> Ensemble:
            return super().sample(system, n, temperature=1.0 / temperature, seed=seed)

    assert failures(Cold()) == {"interface"}

    class NoneAlone(Walks):
        def sample(self, system: str, n: int, *, temperature: Any, seed: int) -> Ensemble:
            if temperature is not None:
                raise RuntimeError("no temperature")
            return super().sample(system, n, temperature=None, seed=seed)

    assert failures(NoneAlone()) == {"temperature"}


class Lax(LearnedSampler):
    """Takes every letter for alanine, and cuts long chains."""

    longest = 5000

    def structures(self, sequence: str, n: int, **options: Any) -> Any:
        letters = "".join(one if one in "CDEFGHIKLMNPQRSTVWY" else "A" for one in sequence)
        return super().structures((letters or "AAAA")[: self.longest], n, **options)


def test_letters_that_are_no_residue_and_lengths() -> None:
    good = toy_sampler()
    assert failures(Lax(good.network, good.spec)) == {"unknown_residues"}
    cut = Lax(good.network, good.spec)
    cut.longest = 30
    assert failures(cut) == {"lengths", "unknown_residues"}

    class Long(LearnedSampler):
        def structures(self, sequence: str, n: int, **options: Any) -> Any:
            if len(sequence) < 10:
                raise ValidationError("too short")
            return super().structures(sequence, n, **options)

    report = check_sampler(Long(good.network, good.spec), SYSTEMS, checks=QUICK)
    assert [one.name for one in report.failed] == ["lengths"]
    assert "5: refused; 8: refused" in report.failed[0].detail


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda e: np.concatenate(e.trajectories), "no ensemble"),
        (lambda e: Ensemble.from_arrays("chignolin", e.trajectories, frame_interval=1.0),
         "in time order"),
        (lambda e: Ensemble.from_arrays("chignolin", [np.concatenate(e.trajectories)[:-1]]),
         "found:    chignolin, (5, 10, 3)"),
        (lambda e: Ensemble.from_arrays("trpcage", e.trajectories, n_beads=10),
         "found:    trpcage"),
        (lambda e: 1 / 0, "ZeroDivisionError"),
    ],
)  # fmt: skip
def test_wrong_interface_is_one_clear_error(change: Callable[..., Any], told: str) -> None:
    class Wrong(Walks):
        def sample(self, *arguments: Any, **options: Any) -> Any:
            return change(super().sample(*arguments, **options))

    report = check_sampler(Wrong(), ("chignolin",))
    assert [one.name for one in report.checks] == ["interface"]
    with pytest.raises(ValidationError) as caught:
        report.require("mine")
    assert str(caught.value).startswith("mine: not a conforming sampler")
    assert told in str(caught.value)


def test_a_sampler_says_what_it_is_and_is_checked_on_something() -> None:
    class Silent(Walks):
        spec = None  # type: ignore[assignment]

    assert failures(Silent()) == {"interface"}
    with pytest.raises(ValidationError, match="no system"):
        check_sampler(Walks(), ())
    with pytest.raises(UsageError, match="no-such-system"):
        check_sampler(Walks(), ("no-such-system",))


# The command line


HASH = "sha256:" + "0" * 64
STATED = TrainedOn(
    system="chignolin", split_id="block-v1", split_fingerprint=HASH, store_fingerprint=HASH,
    part="train",
)  # fmt: skip


def test_files_are_checked_on_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "sampler.pt"
    save_sampler(path, toy_sampler(trained_on=(STATED,)))
    run = CliRunner().invoke(app, ["check", str(path), "--json"])
    assert run.exit_code == 0, run.output
    data = json.loads(run.stdout)
    assert (data["sampler"], data["systems"]) == ("toy", ["chignolin"])
    assert {one["name"] for one in data["checks"]} == set(SAMPLER_CHECKS)
    broken = toy_sampler()
    broken.network.residue.bias.data.view(SMALL.components, SMALL.modes, 9)[..., 1] = 50.0
    save_sampler(path, broken)
    for options, error in (([], UsageError), (["--system", "chignolin"], ValidationError),
                           (["--adapter", "x:y"], UsageError)):  # fmt: skip
        failed = CliRunner().invoke(app, ["check", str(path), *options])
        assert isinstance(failed.exception, error)
    assert "bonds" in str(CliRunner().invoke(
        app, ["check", str(path), "--system", "chignolin"]).exception)  # fmt: skip


def make_walks(path: Path) -> Any:
    return Walks() if path.name == "good" else object()


def test_a_function_of_ones_own_makes_a_sampler_where_it_is_trusted(tmp_path: Path) -> None:
    command = ["check", str(tmp_path / "good"), "--sampler", f"{__name__}:make_walks"]
    assert isinstance(CliRunner().invoke(app, command).exception, UsageError)
    trusted = [*command, "--trust", "--system", "chignolin"]
    run = CliRunner().invoke(app, trusted)
    assert run.exit_code == 0, run.output
    unnamed = CliRunner().invoke(app, [*command, "--trust"]).exception
    assert "give --system" in str(unnamed)
    trusted[1] = str(tmp_path / "other")
    none = CliRunner().invoke(app, trusted).exception
    assert isinstance(none, ValidationError)
    assert "does not return a sampler" in str(none)
    for wrong in (["--profile", "chignolin=x"], ["--adapter", "x:y"]):
        assert isinstance(CliRunner().invoke(app, [*trusted, *wrong]).exception, UsageError)


class TestToySampler(SamplerConformance):
    systems = ("chignolin",)

    def make_sampler(self) -> Any:
        return toy_sampler()


class Unseeded(SamplerConformance):
    __test__ = False
    systems = ("chignolin",)

    def make_sampler(self) -> Any:
        own = np.random.default_rng(1)
        return walks(lambda n, length, seed: chains(n, length, own))


def test_the_pytest_class_fails_on_a_faulty_sampler() -> None:
    Unseeded().test_conformance("finite")
    with pytest.raises(pytest.fail.Exception, match="repeatable"):
        Unseeded().test_conformance("repeatable")
    with pytest.raises(pytest.fail.Exception, match="must name systems"):
        SamplerConformance().test_conformance("finite")
