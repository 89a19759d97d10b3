"""Replicas shared among parts, and the parts joined again."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_simulation import (
    KEY,
    N_FRAMES,
    Faulty,
    SpringChain,
    assert_same,
    interrupt,
    spoil,
    toy_network,
    toy_run,
)
from typer.testing import CliRunner

from cgbench.errors import UsageError
from cgbench.models import NetworkPotential
from cgbench.pipeline.shards import environment_shard
from cgbench.simulation.shards import Shard, finished_parts, join_parts
from cgbench.store import read_trajectories, stored_systems

N_REPLICAS = 4


def files(folder: Path) -> dict[str, bytes]:
    """All files of a group by their path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def parts_of(out: Path, count: int) -> list[Path]:
    return [Shard(index, count).path(out) for index in range(count)]


def run_parts(potential: torch.nn.Module, out: Path, count: int, **options: object) -> list[Path]:
    for index, part in enumerate(parts_of(out, count)):
        replicas = Shard(index, count).replicas(N_REPLICAS)
        toy_run(potential, part, replicas=replicas, **options)
    return parts_of(out, count)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_joined_parts_are_the_run_of_one_process(tmp_path: Path, count: int) -> None:
    whole = tmp_path / "whole" / "trajectories.zarr"
    toy_run(SpringChain(), whole)
    out = tmp_path / "parts" / "trajectories.zarr"
    outcome = join_parts(run_parts(SpringChain(), out, count), out, KEY)
    assert files(out / KEY) == files(whole / KEY)
    assert outcome.alive_until == (N_FRAMES,) * N_REPLICAS

    # So they are a finished run, which is not done again.
    again = SpringChain()
    toy_run(again, out)
    assert again.calls == 0
    assert join_parts(parts_of(out, count), out, KEY) == outcome


def test_a_network_of_compiled_loops_agrees_to_rounding(tmp_path: Path) -> None:
    potential = toy_network()
    assert potential.network is not None
    single = NetworkPotential(potential.network.float(), potential.prior, potential.spec)
    options: dict[str, object] = {"dtype": torch.float32, "engine": "fused"}
    whole = toy_run(single, tmp_path / "whole.zarr", **options)
    out = tmp_path / "parts" / "trajectories.zarr"
    join_parts(run_parts(single, out, 2, **options), out, KEY)
    found = read_trajectories(out, KEY)
    for one, other in zip(found.coordinates, whole.coordinates, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)


def test_a_part_that_failed_is_held_still_as_in_one_process(tmp_path: Path) -> None:
    whole = tmp_path / "whole" / "trajectories.zarr"
    # The last replica of one process is the only one of the last of four parts.
    toy_run(Faulty(SpringChain(), 12, spoil(3, float("nan"))), whole)
    out = tmp_path / "parts" / "trajectories.zarr"
    for index, part in enumerate(parts_of(out, 4)):
        potential = SpringChain()
        fault = Faulty(potential, 12, spoil(0, float("nan")))
        toy_run(fault if index == 3 else potential, part, replicas=[index])
    outcome = join_parts(parts_of(out, 4), out, KEY)
    assert outcome.status == "ok"
    assert_same(read_trajectories(out, KEY), read_trajectories(whole, KEY))
    assert files(out / KEY) == files(whole / KEY)


def test_only_whole_and_matching_parts_are_joined(tmp_path: Path) -> None:
    out = tmp_path / "trajectories.zarr"
    first, second = parts_of(out, 2)
    toy_run(SpringChain(), first, replicas=[0, 1])
    assert finished_parts(out, KEY, 2) is None
    with pytest.raises(UsageError, match="run this part"):
        join_parts([first, second], out, KEY)
    with pytest.raises(KeyboardInterrupt):
        toy_run(Faulty(SpringChain(), 9, interrupt), second, replicas=[2, 3])
    with pytest.raises(UsageError, match="it resumes"):
        join_parts([first, second], out, KEY)
    toy_run(SpringChain(), second, replicas=[2, 3], seed=2, force=True)
    assert finished_parts(out, KEY, 2) is None
    with pytest.raises(UsageError, match="the same seed"):
        join_parts([first, second], out, KEY)
    toy_run(SpringChain(), second, replicas=[1, 2], force=True)
    with pytest.raises(UsageError, match="do not make up"):
        join_parts([first, second], out, KEY)
    assert not out.exists()
    toy_run(SpringChain(), second, replicas=[2, 3], force=True)
    assert finished_parts(out, KEY, 2) == [first, second]
    toy_run(SpringChain(), out, seed=5)
    with pytest.raises(UsageError, match="another simulation"):
        join_parts([first, second], out, KEY)
    join_parts([first, second], out, KEY, force=True)
    assert stored_systems(out) == (KEY,)


def test_divisions() -> None:
    for count in range(1, 9):
        replicas = [r for index in range(count) for r in Shard(index, count).replicas(8)]
        assert replicas == list(range(8))
    with pytest.raises(UsageError, match="more than there are replicas"):
        Shard(0, 5).replicas(4)
    for text in ("4/4", "-1/4", "1", "a/b", "1/", "0/0"):
        with pytest.raises(UsageError):
            Shard.parse(text)


def test_the_launcher_says_which_part(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert environment_shard() is None
    monkeypatch.setenv("RANK", "5")
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert environment_shard() == (Shard(5, 8), 1)
    monkeypatch.setenv("RANK", "8")
    with pytest.raises(UsageError):
        environment_shard()


@pytest.mark.slow
def test_processes_and_parts_by_the_command(tmp_path: Path) -> None:
    from cgbench.cli.main import app

    def simulate(*options: str) -> dict[str, object]:
        result = CliRunner().invoke(
            app,
            ["simulate", "torchmd-gn/chignolin-sample", "--protocol", "smoke", "--json", *options],
        )
        assert result.exit_code == 0, result.output
        found: dict[str, object] = json.loads(result.stdout)
        return found

    one, two = tmp_path / "processes", tmp_path / "shards"
    # Two devices, so two processes; a processor stands for each of them.
    simulate("--out", str(one), "--devices", "cpu,cpu", "--threads", "1")
    for index in range(2):
        simulate("--out", str(two), "--shard", f"{index}/2", "--threads", "1")
        assert (two / "trajectories.zarr").exists() == (index == 1)
    assert files(one / "trajectories.zarr") == files(two / "trajectories.zarr")
    assert simulate("--out", str(two), "--merge") == simulate("--out", str(two), "--shard", "0/2")
