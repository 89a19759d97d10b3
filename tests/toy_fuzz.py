"""What fuzz tests share: odd values, damaged bytes, and a parser that may only raise our errors."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from cgbench.errors import CgbenchError
from cgbench.store import TrajectoryAttributes, TrajectorySet, write_trajectories

FUZZ = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

#: Values that parsers meet where they expect something else.
ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20),
    st.sampled_from([10**400, -1, 1e308, "NaN", "<script>", "../../x", "\x00", "\u202e", [], {}]),
    st.recursive(st.none(), lambda inner: st.lists(inner, max_size=3), max_leaves=5),
)  # fmt: skip


class Bomb:
    """Runs when it is unpickled."""

    ran = False

    def __reduce__(self) -> tuple[Any, ...]:
        return (setattr, (Bomb, "ran", True))


@pytest.fixture(autouse=True)
def nothing_runs():
    Bomb.ran = False
    yield
    assert not Bomb.ran


def survives(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a parser; only our own errors may come out."""
    try:
        return function(*arguments)
    except CgbenchError:
        return None


@st.composite
def mutated(draw: st.DrawFn, data: Any) -> Any:
    """Plain data with some places replaced, removed, repeated or added."""
    data = json.loads(json.dumps(data))
    for _ in range(draw(st.integers(1, 3))):
        place: Any = data
        for _ in range(draw(st.integers(0, 6))):
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            inner = place[draw(st.sampled_from(keys))]
            if not isinstance(inner, dict | list) or not inner:
                break
            place = inner
        if isinstance(place, dict) and place:
            key = draw(st.sampled_from(sorted(place)))
            change = draw(st.sampled_from(["replace", "remove", "add"]))
            if change == "replace":
                place[key] = draw(ODD)
            elif change == "remove":
                del place[key]
            else:
                place[draw(st.text(max_size=10))] = draw(ODD)
        elif isinstance(place, list) and place:
            place[draw(st.integers(0, len(place) - 1))] = draw(ODD)
    return data


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes that were cut off, changed, or grown."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(changed) - 1)))
        kind = draw(st.sampled_from(["flip", "cut", "insert", "zero", "large"]))
        if kind == "cut":
            del changed[place:]
        elif kind == "insert":
            changed[place:place] = draw(st.binary(max_size=16))
        elif kind in ("zero", "large"):
            changed[place : place + 4] = (b"\0" if kind == "zero" else b"\xff") * 4
        elif changed:
            changed[place] ^= draw(st.integers(1, 255))
    return bytes(changed)


@pytest.fixture(scope="module")
def trajectories(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("zarr") / "trajectories.zarr"
    attributes = TrajectoryAttributes(sequence="YYDP", temperature=350.0, frame_interval=0.1)
    frames = [np.zeros((5, 4, 3), dtype=np.float32)] * 2
    write_trajectories(
        path,
        TrajectorySet(
            system="toy", coordinates=frames, network_energy=None, prior_energy=None, weights=None,
            alive_until=np.array([5, 5]), frame_interval=0.1, temperature=350.0,
            attributes=attributes,
        ),
    )  # fmt: skip
    return path
