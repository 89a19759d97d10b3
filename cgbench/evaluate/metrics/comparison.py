"""What every metric of an ensemble is computed from."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cgbench import registry
from cgbench.errors import ValidationError
from cgbench.evaluate.distributions import Distributions
from cgbench.evaluate.metrics.divergence import Float, smoothed_free_energy
from cgbench.evaluate.reference_bundle import ReferenceBundle
from cgbench.evaluate.statistic import Definition, Statistic
from cgbench.units import thermal_energy

__all__ = ["Comparison", "Float"]


@dataclass(frozen=True)
class Comparison:
    """A model and the reference, column by column: the point estimate or one resample each.

    Attributes:
        model: Distributions of what is scored.
        reference: Distributions of the reference, as many columns.
        bundle: Grids, native structure and scales.
        surviving: (n_columns,) share of the trajectories without a bad frame.
    """

    model: Distributions
    reference: Distributions
    bundle: ReferenceBundle
    surviving: Float

    def __post_init__(self) -> None:
        columns = (self.model.n_columns, self.reference.n_columns, len(self.surviving))
        if len(set(columns)) != 1:
            raise ValidationError("model and reference have different resamples", found=columns)

    @property
    def definition(self) -> Definition:
        """The frozen facts that statistics refer to."""
        return self.bundle.definition

    def counted(self, statistic: Statistic) -> tuple[Float, Float]:
        """Return what was counted in bins of the model and of the reference.

        Both are (n_bins, n_columns) masses; zeros where no frame was left to count.
        """
        n_bins = statistic.n_columns(self.definition)
        model, reference = (
            side.masses.get(statistic.name, np.zeros((n_bins, side.n_columns)))
            for side in (self.model, self.reference)
        )
        return model, reference

    @cached_property
    def free_energies(self) -> tuple[Float, Float]:
        """Smoothed surfaces of the model and the reference, (n_x, n_y, n_columns) in kcal/mol.

        Each has the least value zero and is infinite where it has no mass.
        """
        bundle = self.bundle
        widths = bundle.metadata.smoothing * bundle.tic_sigma[:2]
        model, reference = (
            smoothed_free_energy(side.masses["plane"], bundle.fes_edges, widths, bundle.temperature)
            for side in (self.model, self.reference)
        )
        return model, reference

    @cached_property
    def fes_difference(self) -> Float:
        """`free_energy_difference` up to the cutoff of the ranked metrics."""
        return self.free_energy_difference(registry.constants().fes_cutoff)

    def free_energy_difference(self, cutoff: float) -> Float:
        """Return the free energy of the model less the reference's, (n_cells, n_columns).

        The cells are those where the bundle's free energy is at most the cutoff c. Both surfaces
        are smoothed. With least value zero each, R and M, the shift is the mean of M − R over the
        cells where M ≤ c as well, zero if there are none. The model's free energy is M less the
        shift, plus k_B·T·ln of one over the share of its mass that is neither lost nor outside the
        grid, and at most c plus the clip. Shifting after lost mass or after the clip would instead
        let a model that visits one cell, or none, score no worse than the spread of R.

        Args:
            cutoff: In kcal/mol, like the result.
        """
        top = cutoff + registry.constants().fes_clip
        cells = self.bundle.fes <= cutoff
        model, reference = (surface[cells] for surface in self.free_energies)
        reference = np.minimum(reference, top)
        shared = model <= cutoff
        number = shared.sum(axis=0)
        with np.errstate(invalid="ignore"):
            apart = np.where(shared, model - reference, 0.0).sum(axis=0)
        shift = apart / np.maximum(number, 1)
        lifted = model - shift + self._lost_energy
        return np.asarray(np.minimum(lifted, top) - reference)

    @cached_property
    def _lost_energy(self) -> Float:
        """(n_columns,) what every cell rises by because of mass that is not on the grid."""
        inside = np.minimum(self.model.masses["plane"][:-1].sum(axis=0), 1.0)
        with np.errstate(divide="ignore"):
            energy: Float = -thermal_energy(self.bundle.temperature) * np.log(inside)
        return energy
