"""The folded population of a Gō model as a function of its energy ε, by replica exchange.

As all energies are proportional to ε, a model at ε and temperature T has the populations of one at
ε₀ and T ε₀/ε: a ladder of temperatures gives the whole function in one run.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import pydantic
import torch
from numpy.typing import NDArray

from cgbench import registry
from cgbench.config import Frozen
from cgbench.errors import ValidationError
from cgbench.models import (
    GoChain,
    GoConstants,
    GoModel,
    GoModelSettings,
    NetworkPotential,
    PotentialSpec,
)
from cgbench.progress import Progress, silent
from cgbench.registry import Protocol, TemperatureLadder
from cgbench.simulation import SystemInput, simulate
from cgbench.store import read_trajectories

#: ε in kcal/mol of the simulations that look for the right one.
_TRIAL_SCALE: Final = 1.0
#: Populations closer to 0 or 1 than this cannot be told from so few frames.
_LEAST_POPULATION: Final = 0.01


class Calibration(Frozen):
    """The replica exchange that finds ε.

    Attributes:
        scales: Least and largest ε looked at, in kcal/mol.
        n_scales: Number of rungs between them, in a constant ratio.
        length: ps of each replica, of which the first third is not looked at.
        timestep: ps.
        friction: 1/ps; a low one, because chains fold sooner.
        seed: Seed of the simulation.
    """

    scales: tuple[float, float] = (0.6, 1.2)
    n_scales: int = pydantic.Field(default=16, ge=4, le=64)
    length: float = pydantic.Field(default=400.0, gt=0)
    timestep: float = pydantic.Field(default=0.008, gt=0)
    friction: float = pydantic.Field(default=0.2, gt=0)
    seed: int = pydantic.Field(default=1, ge=0)

    @pydantic.model_validator(mode="after")
    def _ascending(self) -> Self:
        if not 0.0 < self.scales[0] < self.scales[1]:
            raise ValueError("scales must ascend from above 0")
        return self


class FoldingCurve(Frozen):
    """Folded population of a Gō model as a function of its energy.

    Attributes:
        temperature: In K.
        scales: ε in kcal/mol, ascending.
        populations: Share of folded frames at each.
        frames: Number of frames behind each.
    """

    temperature: float
    scales: tuple[float, ...]
    populations: tuple[float, ...]
    frames: tuple[int, ...]

    def scale_at(self, population: float) -> float:
        """Return the ε of a folded population, by interpolation of its logit.

        Populations of neighbouring rungs that go down by chance are averaged first (isotonic
        regression).

        Raises:
            ValidationError: The population is beyond those of the curve.
        """
        rising = _isotonic(np.array(self.populations), np.array(self.frames, dtype=np.float64))
        wanted = min(max(population, _LEAST_POPULATION), 1.0 - _LEAST_POPULATION)
        if not rising[0] <= wanted <= rising[-1]:
            raise ValidationError(
                "no energy of the Gō model gives this folded population",
                expected=f"{rising[0]:.2f} to {rising[-1]:.2f}, with ε between "
                f"{self.scales[0]:g} and {self.scales[-1]:g} kcal/mol",
                found=f"{population:.3f}",
                fix="change calibration.scales, or give a number as scale",
            )
        bounded = np.clip(rising, _LEAST_POPULATION / 2, 1.0 - _LEAST_POPULATION / 2)
        logits = np.log(bounded / (1.0 - bounded))
        target = math.log(wanted / (1.0 - wanted))
        above = min(max(int(np.searchsorted(logits, target)), 1), len(logits) - 1)
        low, high = logits[above - 1], logits[above]
        share = 0.5 if high <= low else (target - low) / (high - low)
        first, second = np.log(self.scales[above - 1]), np.log(self.scales[above])
        return float(np.exp(first + min(max(share, 0.0), 1.0) * (second - first)))


def _isotonic(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the nearest values that do not go down, by pooling adjacent violators."""
    blocks: list[list[float]] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        blocks.append([value, weight, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            last, before = blocks.pop(), blocks.pop()
            total = last[1] + before[1]
            mean = (last[0] * last[1] + before[0] * before[1]) / total
            blocks.append([mean, total, last[2] + before[2]])
    return np.concatenate([np.full(int(size), value) for value, _, size in blocks])


def folding_curve(
    native: NDArray[np.floating[Any]],
    chain: GoChain,
    sequence: str,
    folded: Callable[[NDArray[np.float32]], NDArray[np.bool_]],
    *,
    temperature: float,
    constants: GoConstants,
    calibration: Calibration,
    folder: Path,
    progress: Progress = silent,
) -> FoldingCurve:
    """Simulate a Gō model over a ladder of energies; one that is there already is kept.

    Half of the replicas start from the native structure, the others unfolded, so that what is not
    yet in equilibrium errs in both directions alike.

    Args:
        native: (N, 3) in Å.
        chain: Its name and bead types.
        sequence: One letter for each bead.
        folded: Function of frames (n, N, 3) in Å to a mask (n,).
        temperature: In K.
        constants: Of the model.
        calibration: The simulation.
        folder: Where it is kept while it runs, and its result.
        progress: Told how far it is.
    """
    settings = GoModelSettings(constants=constants, chains=(chain,))
    potential = NetworkPotential(
        GoModel(settings, [native], [_TRIAL_SCALE]), None, PotentialSpec(name="go-model/trial")
    )
    ladder, hot = _protocols(temperature, calibration)
    types = torch.tensor(chain.bead_types)
    start = torch.as_tensor(np.asarray(native), dtype=torch.float32)[None]
    folder.mkdir(parents=True, exist_ok=True)
    names = {"unfolding": hot, "ladder": ladder}
    starts = start
    for name, protocol in names.items():
        system = SystemInput(chain.name, types, starts, sequence)
        out = folder / f"{name}.zarr"
        simulate(potential, system, protocol, seed=calibration.seed, out=out, progress=progress)
        found = read_trajectories(out, chain.name)
        if name == "unfolding":
            last = torch.from_numpy(
                np.stack([np.asarray(one[-1:])[0] for one in found.coordinates])
            )
            starts = torch.cat([start.expand(len(last), -1, -1), last])
    temperatures = found.temperatures
    assert temperatures is not None  # noqa: S101 - the protocol has a ladder
    skipped = ladder.n_frames(chain.name) // 3
    marks = np.concatenate([folded(np.asarray(one[skipped:])) for one in found.coordinates])
    rungs = np.concatenate([np.asarray(one[skipped:]) for one in temperatures])
    assert ladder.ladder is not None  # noqa: S101 - made above
    steps = ladder.ladder.temperatures[::-1]
    inside = [np.isclose(rungs, rung, rtol=1e-5) for rung in steps]
    return FoldingCurve(
        temperature=temperature,
        scales=tuple(_TRIAL_SCALE * temperature / rung for rung in steps),
        populations=tuple(float(marks[mask].mean()) for mask in inside),
        frames=tuple(int(mask.sum()) for mask in inside),
    )


def _protocols(temperature: float, calibration: Calibration) -> tuple[Protocol, Protocol]:
    """Return the ladder, with two replicas a rung, and the run that unfolds half of them."""
    low, high = calibration.scales
    scales = np.geomspace(high, low, calibration.n_scales)
    temperatures = [round(temperature * _TRIAL_SCALE / scale, 3) for scale in scales.tolist()]
    interval = 50 * calibration.timestep
    common: dict[str, Any] = {
        **registry.protocol("standard").model_dump(),
        "id": "go-calibration",
        "timestep": calibration.timestep,
        "friction": calibration.friction,
        "output_interval": interval,
        "temperature": temperatures[0],
    }
    ladder = TemperatureLadder(
        temperatures=tuple(temperatures), interval=interval, source="chosen here"
    )
    length = interval * max(3, round(calibration.length / interval))
    swapped = {"n_replicas": 2 * calibration.n_scales, "length": length, "ladder": ladder}
    hot = {
        "n_replicas": calibration.n_scales,
        "temperature": 1.5 * temperatures[-1],
        "length": interval * max(1, round(0.1 * calibration.length / interval)),
    }
    return Protocol.model_validate(common | swapped), Protocol.model_validate(common | hot)
