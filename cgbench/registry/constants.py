"""Numbers that more than one metric, or more than one part of the package, depends on."""

from pydantic import Field

from cgbench.config import Frozen


class Constants(Frozen):
    """Frozen constants of the metrics and of the data they are computed from.

    Attributes:
        fes_grid_size: Cells of the free-energy grid along each slow coordinate.
        fes_grid_margin: Width added to the reference's range on each side of the grid, in units
            of the slow coordinate.
        fes_cutoff: Cells whose reference free energy is above this are not compared, kcal/mol.
        fes_clip: How far above the cutoff the free energy of an empty cell is set, kcal/mol.
        fes_smoothing: Width of the Gaussian smoothing in reference standard deviations.
        marginal_bins: Bins of one-dimensional histograms that Wasserstein distances are taken of.
        q_bins: The same for the fraction of native contacts, over 0 to 1.
        dihedral_bins: Bins of a dihedral angle over the full turn.
        contact_beta: Steepness β of a contact in 1/Å.
        contact_lambda: Factor λ by which a native distance may grow in a contact.
        contact_cutoff: Largest native distance of a contact in Å.
        contact_separation: Least number of bonds between two beads in contact.
        unfolded_q: A frame is unfolded below this fraction of native contacts.
        folded_q: A frame is folded from this fraction of native contacts on.
        bond_minimum: A frame with a shorter bond, in Å, is bad.
        bond_maximum: A frame with a longer bond, in Å, is bad.
        clash_distance: Beads closer than this clash, Å.
        clash_separation: Least number of bonds between two beads that can clash.
        bead_mass: Mass of a bead in amu.
        drop_fraction: Fraction at the start of each simulated trajectory that is not analysed.
        n_start_frames: Number of start frames in a reference bundle.
        rmsd_percentile: Percentile of the RMSD that is reported as the closest approach.
        handedness_percentile: Percentile of the reference's handedness that is the gate.
        outside_percentile: Frames further from all microstate centres than this
            percentile of the reference's are outside.
        n_resamples: Number of bootstrap resamples.
        confidence_level: Coverage of every interval.
        minimum_trajectories: Fewest trajectories of a ranked ensemble.
        minimum_events: Fewest folding, and unfolding, events of a converged ensemble.
        unreliable_disconnected_fraction: Weights are unreliable when a larger fraction of the
            frames is outside the largest connected set.
        unreliable_population_error: Weights are unreliable when stationary and counted populations
            differ by more than this, kcal/mol.
        screening_bond_minimum: Reference frames with a shorter bond, in Å, are masked as damaged.
        screening_bond_maximum: The same for a longer bond.
        screening_force_maximum: Reference frames with a larger force component, in kcal/mol/Å,
            are masked as damaged.
        quantisation_coordinates_bound: A quantised store is refused where the largest error of a
            coordinate would be above this, Å.
        quantisation_forces_bound: The same for a force component, kcal/mol/Å.
    """

    fes_grid_size: int = Field(ge=2)
    fes_grid_margin: float = Field(ge=0)
    fes_cutoff: float = Field(gt=0)
    fes_clip: float = Field(gt=0)
    fes_smoothing: float = Field(gt=0)
    marginal_bins: int = Field(ge=2)
    q_bins: int = Field(ge=2)
    dihedral_bins: int = Field(ge=2)
    contact_beta: float = Field(gt=0)
    contact_lambda: float = Field(ge=1)
    contact_cutoff: float = Field(gt=0)
    contact_separation: int = Field(ge=1)
    unfolded_q: float = Field(gt=0, lt=1)
    folded_q: float = Field(gt=0, lt=1)
    bond_minimum: float = Field(gt=0)
    bond_maximum: float = Field(gt=0)
    clash_distance: float = Field(gt=0)
    clash_separation: int = Field(ge=1)
    bead_mass: float = Field(gt=0)
    drop_fraction: float = Field(ge=0, lt=1)
    n_start_frames: int = Field(ge=1)
    rmsd_percentile: float = Field(ge=0, le=100)
    handedness_percentile: float = Field(ge=0, le=100)
    outside_percentile: float = Field(ge=0, le=100)
    n_resamples: int = Field(ge=1)
    confidence_level: float = Field(gt=0, lt=1)
    minimum_trajectories: int = Field(ge=1)
    minimum_events: int = Field(ge=1)
    unreliable_disconnected_fraction: float = Field(gt=0, lt=1)
    unreliable_population_error: float = Field(gt=0)
    screening_bond_minimum: float = Field(gt=0)
    screening_bond_maximum: float = Field(gt=0)
    screening_force_maximum: float = Field(gt=0)
    quantisation_coordinates_bound: float = Field(gt=0)
    quantisation_forces_bound: float = Field(gt=0)
