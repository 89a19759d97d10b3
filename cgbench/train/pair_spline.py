"""Pairwise spline potentials, fitted by force matching as regularised linear least squares.

Forces are linear in the coefficients of the splines, so the best ones solve the normal equations
``(AᵀA + λ R) c = Aᵀf`` with the forces f that the prior leaves over (S. Izvekov and G. A. Voth, J.
Phys. Chem. B 109, 2469 (2005); W. G. Noid et al., J. Chem. Phys. 128, 244114 (2008)). AᵀA and Aᵀf
are sums over frames: frames are read once, block by block, and memory does not grow with their
number. The same sums over the validation part give its loss for any c, by which λ is chosen.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import pydantic
import torch
import yaml
from numpy.typing import NDArray

from cgbench import config as files
from cgbench.errors import ValidationError
from cgbench.models import NetworkPotential, PairSpline, PairSplineSettings, PotentialSpec
from cgbench.models.pair_spline import POLYNOMIALS, chain_pairs
from cgbench.priors import PriorFitSettings, PriorParameters
from cgbench.progress import Progress, silent
from cgbench.train.clock import Clock
from cgbench.train.config import System, SystemsConfig, TrainingConfig
from cgbench.train.fitting import fit_material_prior
from cgbench.train.force_frames import (
    finish_fit,
    force_blocks,
    frames_of,
    system_loss,
    write_figure,
)
from cgbench.train.material import Material, SystemMaterial, open_material
from cgbench.train.records import TrainingOutcome, take_folder

Double = NDArray[np.float64]

#: Rows of the matrix that are held at once: bounds it to some hundred MB.
_ROWS = 16384


class PairSplineConfig(SystemsConfig):
    """A pairwise spline potential of one or several proteins.

    Attributes:
        systems: Proteins to fit to; ``system: x`` is short for ``systems: [x]``.
        split: Split id; with ``left_out`` it is ``lopo-<left_out>`` if not given.
        left_out: The protein that the fit must not see.
        balance: Shares of the systems in the sums: by their ``frames``, or all ``systems`` alike.
        maximum_frames: Most training and most validation frames of each system, evenly spread;
            ``null`` for all.
        spline: Shape of the functions.
        regularisation: Values of λ that are tried, relative to the mean diagonal of AᵀA.
        smoothness: Weight of the squared second differences of neighbouring coefficients in R,
            beside the squares of the coefficients with weight one.
    """

    kind: Literal["pair-spline"] = "pair-spline"
    left_out: System | None = None
    balance: Literal["frames", "systems"] = "frames"
    maximum_frames: int | None = pydantic.Field(default=20_000, ge=1)
    spline: PairSplineSettings = PairSplineSettings()
    prior: PriorFitSettings = PriorFitSettings()
    regularisation: tuple[float, ...] = (1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    smoothness: float = pydantic.Field(default=10.0, ge=0, allow_inf_nan=False)

    @pydantic.model_validator(mode="after")
    def _positive(self) -> Self:
        if not self.regularisation or not all(0.0 < one < 1e6 for one in self.regularisation):
            raise ValueError("regularisation must hold numbers above 0")
        return self

    def as_training(self) -> TrainingConfig:
        """Return the settings of the data, in the form in which a training run opens them."""
        return TrainingConfig(
            name=self.name,
            systems=self.systems,
            split=self.split,
            left_out=self.left_out,
            balance=self.balance,
            force_map=self.force_map,
            prior=self.prior,
        )


@dataclass
class NormalEquations:
    """Sums over the frames of a part: AᵀA (p, p), Aᵀf (p,), f·f and the number of components."""

    matrix: Double
    vector: Double
    square: float = 0.0
    count: int = 0
    n_frames: int = 0

    @classmethod
    def empty(cls, n: int) -> "NormalEquations":
        """Return sums over no frames, of n coefficients."""
        return cls(np.zeros((n, n)), np.zeros(n))

    def error(self, coefficients: Double) -> float:
        """Return Σ (A c − f)², not below zero."""
        quadratic = coefficients @ self.matrix @ coefficients
        return max(float(quadratic - 2.0 * self.vector @ coefficients + self.square), 0.0)

    def plus(self, other: "NormalEquations", weight: float) -> "NormalEquations":
        """Return these sums and a multiple of others; counts are added as they are."""
        return NormalEquations(
            self.matrix + weight * other.matrix,
            self.vector + weight * other.vector,
            self.square + weight * other.square,
            self.count + other.count,
            self.n_frames + other.n_frames,
        )


def design_matrix(
    settings: PairSplineSettings, bead_types: NDArray[np.int64], pos: Double
) -> Double:
    """Return the matrix A with A c = f for coefficients c, (n · N · 3, n_functions · n_intervals).

    The force on bead i is ``−Σ_j u'(r_ij) (x_i − x_j)/r_ij``. Below the first knot u' is that at
    the knot.

    Args:
        settings: Shape of the functions.
        bead_types: (N,).
        pos: (n, N, 3) in Å.
    """
    n_frames, n_beads, _ = pos.shape
    pairs = chain_pairs(settings, bead_types)
    difference: Double = pos[:, pairs.first] - pos[:, pairs.second]
    distance: Double = np.sqrt(np.maximum((difference**2).sum(axis=2), 1e-12))
    frame, pair = np.nonzero(distance < settings.cutoff)
    distance, difference = distance[frame, pair], difference[frame, pair]
    scaled = (distance - settings.first_knot) / settings.spacing
    interval = np.clip(np.floor(scaled), 0, settings.n_intervals - 1).astype(np.int64)
    place = np.maximum(scaled - interval, 0.0)
    powers = np.stack([np.ones_like(place), 2.0 * place, 3.0 * place * place])
    # (n, 4) slopes of the four splines of an interval, of which those beyond the last are not used.
    slopes = powers.T @ POLYNOMIALS[1:] / settings.spacing
    unit = difference / distance[:, None]
    n_columns = settings.n_functions * settings.n_intervals
    matrix = np.zeros(n_frames * n_beads * 3 * n_columns)
    for functions in (pairs.separation, pairs.types):
        function = functions[pair]
        for spline in range(4):
            used = (interval + spline < settings.n_intervals) & (function >= 0)
            column = function[used] * settings.n_intervals + interval[used] + spline
            for component in range(3):
                value = slopes[used, spline] * unit[used, component]
                for beads, sign in ((pairs.first, -1.0), (pairs.second, 1.0)):
                    row = (frame[used] * n_beads + beads[pair[used]]) * 3 + component
                    # Rows and columns meet more than once: a bead has many pairs.
                    np.add.at(matrix, row * n_columns + column, sign * value)
    return matrix.reshape(-1, n_columns)


def normal_equations(
    settings: PairSplineConfig,
    item: SystemMaterial,
    part: str,
    prior: PriorParameters,
    progress: Progress = silent,
) -> NormalEquations:
    """Return the sums over the frames of a part of one system."""
    sums = NormalEquations.empty(settings.spline.n_functions * settings.spline.n_intervals)
    types = np.asarray(item.store.bead_types, dtype=np.int64)
    frames = frames_of(item, part, settings.maximum_frames)
    step = max(1, _ROWS // (3 * item.store.n_beads))
    for pos, forces in force_blocks(item, frames, settings.force_map, prior, progress):
        for begin in range(0, len(pos), step):
            matrix = design_matrix(settings.spline, types, pos[begin : begin + step])
            target = forces[begin : begin + step].reshape(-1)
            sums.matrix += matrix.T @ matrix
            sums.vector += matrix.T @ target
            sums.square += float(target @ target)
            sums.count += len(target)
    sums.n_frames = len(frames)
    return sums


def solve(settings: PairSplineConfig, training: NormalEquations, strength: float) -> Double:
    """Return the regularised coefficients (n_functions · n_intervals,).

    Args:
        settings: Shape and smoothness.
        training: Sums over the training part.
        strength: λ, relative to the mean diagonal of AᵀA where it is not zero.
    """
    spline = settings.spline
    second = np.diff(np.eye(spline.n_intervals), n=2, axis=0)
    own = np.eye(spline.n_intervals) + settings.smoothness * second.T @ second
    penalty = np.kron(np.eye(spline.n_functions), own)
    diagonal = np.diag(training.matrix)
    scale = float(diagonal[diagonal > 0.0].mean())
    matrix = training.matrix + strength * scale * penalty
    return np.asarray(np.linalg.solve(matrix, training.vector), dtype=np.float64)


def choose(
    settings: PairSplineConfig, training: NormalEquations, validation: NormalEquations
) -> tuple[Double, float]:
    """Return the coefficients of the λ with the least loss on the validation part, and λ.

    Raises:
        ValidationError: No pair of the training part is within the cutoff.
    """
    if not np.diag(training.matrix).any():
        raise ValidationError(
            f"{settings.name}: no pair of the training part is within the cutoff",
            expected=f"distances below {settings.spline.cutoff:g} Å",
        )
    candidates = [(solve(settings, training, one), one) for one in settings.regularisation]
    return min(candidates, key=lambda candidate: validation.error(candidate[0]))


def train_pair_spline(
    settings: PairSplineConfig,
    out: Path,
    *,
    home: Path | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> TrainingOutcome:
    """Fit a pairwise spline potential on top of a fitted prior and write ``model.pt``.

    The folder holds ``config.yaml``, ``prior.json``, ``model.pt``, ``training.json`` and
    ``provenance.json``. A finished run with the same configuration, stores and splits is returned
    as it is; an interrupted one begins again.

    Args:
        settings: What to fit to what.
        out: The run folder.
        home: Data home.
        force: Start over.
        progress: Told how far it is.

    Raises:
        UsageError: A system, its split or reference is not here, or the folder holds another run.
        ValidationError: The data do not fit together, or hold too little to fit to.
    """
    material = open_material(settings.as_training(), home)
    fingerprint = files.fingerprint(
        {"config": settings.model_dump(mode="json"), "data": material.fingerprint}
    )
    out.mkdir(parents=True, exist_ok=True)
    state = take_folder(out, fingerprint, True, force)
    finished = out / "training.json"
    if finished.is_file() and (out / "model.pt").is_file():
        return files.read_model(TrainingOutcome, finished)
    files.write_atomic(out / "config.yaml", yaml.safe_dump(settings.model_dump(mode="json")))
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    clock = Clock(state)
    prior, figure = fit_material_prior(material, progress)
    files.write_model(out / "prior.json", prior)
    write_figure(figure, out / "prior.png")
    training = _sums(settings, material, "train", prior, progress)
    validation = _sums(settings, material, "val", prior, progress)
    coefficients, strength = choose(
        settings, _balanced(settings, training), _balanced(settings, validation)
    )
    shape = (settings.spline.n_functions, settings.spline.n_intervals)
    network = PairSpline(settings.spline, coefficients.reshape(shape)).eval()
    # As it is stored: rounded.
    rounded = network.coefficients.double().numpy().reshape(-1)
    losses = {
        item.system: system_loss(
            training[item.system].n_frames,
            validation[item.system].n_frames,
            item,
            validation[item.system].error(rounded),
            validation[item.system].square,
        )
        for item in material.systems
    }
    spent = clock.now()
    spec = PotentialSpec(
        name=settings.name,
        version="1",
        cutoff=settings.spline.cutoff,
        trained_on=material.trained_on(),
        force_map=material.force_map,
        licence=settings.licence,
        description=settings.description,
        seeds=(settings.seed,),
        training_cost_s=round(spent.seconds, 1),
        n_parameters=network.n_parameters,
    )
    return finish_fit(
        out,
        NetworkPotential(network, prior, spec),
        losses,
        spent=spent,
        how=f"linear least squares, regularisation {strength:g} by validation",
        seed=settings.seed,
    )


def _sums(
    settings: PairSplineConfig,
    material: Material,
    part: str,
    prior: PriorParameters,
    progress: Progress,
) -> dict[str, NormalEquations]:
    return {
        item.system: normal_equations(settings, item, part, prior, progress)
        for item in material.systems
    }


def _balanced(settings: PairSplineConfig, sums: dict[str, NormalEquations]) -> NormalEquations:
    """Return the sum over systems: as it is, or with each system's mean counting alike."""
    total = NormalEquations.empty(settings.spline.n_functions * settings.spline.n_intervals)
    for one in sums.values():
        if one.count:
            weight = 1.0 / one.count if settings.balance == "systems" else 1.0
            total = total.plus(one, weight)
    return total
