"""Numbers that more than one metric, or more than one part of the package, depends on."""

from pydantic import Field

from cgbench.config import Frozen


class BioemuConstants(Frozen):
    """Constants of the BioEmu benchmark, for the metrics that repeat its definitions.

    Attributes:
        points: Points that it draws from an ensemble.
        noise: Standard deviation of the noise on a point, in those of the projection.
        bins: Cells of its grid along each coordinate.
        padding: Part of a cell by which the grid is larger than the points on each side.
        cutoff: Cells whose reference free energy is above this are not compared, kcal/mol.
        source: Where the constants are from.
    """

    points: int = Field(ge=1)
    noise: float = Field(gt=0)
    bins: int = Field(ge=2)
    padding: float = Field(ge=0)
    cutoff: float = Field(gt=0)
    source: str


class TwoForOneConstants(Frozen):
    """Constants of the two-for-one evaluation, for the metrics that repeat its definitions.

    Attributes:
        tic_bins: Cells of its grid along each slow coordinate, over the reference's range.
        pair_separation: Least number of bonds between the two beads of a pair.
        pair_resolution: Width of the bins of a pair's distance, Å.
        pseudo_count: Probability added to every bin.
        source: Where those constants are from.
        pairs: At most so many pairs are taken, evenly spread over all.
        longest: Larger distances share the last bin, Å.
        chosen_here: Which constants are this suite's and why.
    """

    tic_bins: int = Field(ge=2)
    pair_separation: int = Field(ge=1)
    pair_resolution: float = Field(gt=0)
    pseudo_count: float = Field(gt=0)
    source: str
    pairs: int = Field(ge=1)
    longest: float = Field(gt=0)
    chosen_here: str


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
        bond_bins: Bins of a bond length between the limits of a bond.
        angle_bins: Bins of a bond angle over the half turn.
        pair_distance_bins: Bins of the distance of a pair of beads.
        score_bins: Bins of a structure score over 0 to 1.
        kl_pseudo_count: Probability added to every cell before a Kullback-Leibler divergence.
        paper_fes_cutoff: Cutoff of free energies in the paper-style error, kcal/mol.
        minor_population: Macrostates with a smaller population of the reference are merged.
        contact_beta: Steepness β of a contact in 1/Å.
        contact_lambda: Factor λ by which a native distance may grow in a contact.
        contact_cutoff: Largest native distance of a contact in Å.
        contact_separation: Least number of bonds between two beads in contact.
        unfolded_q: A frame is unfolded below this fraction of native contacts.
        folded_q: A frame is folded from this fraction of native contacts on, if its RMSD is small.
        folded_rmsd_percentile: Percentile of the RMSD of the reference's native-like frames that is
            the largest RMSD of a folded frame.
        folded_rmsd_minimum: That limit is at least this, Å.
        pair_separation: Least number of bonds between two beads whose distance's distribution is
            compared.
        bond_minimum: A frame with a shorter bond, in Å, is bad.
        bond_maximum: A frame with a longer bond, in Å, is bad.
        clash_distance: Beads closer than this clash, Å.
        clash_separation: Least number of bonds between two beads that can clash.
        bond_violation_deviations: A bond violates its length when it is further from the mean than
            this many standard deviations of the reference.
        close_rmsd: Frames closer to the native conformer are counted as close to it, Å.
        bead_mass: Mass of a bead in amu.
        drop_fraction: Fraction at the start of each simulated trajectory that is not analysed.
        subset_frames: Frames of an ensemble that distributions of every residue or pair of beads
            are made from.
        search_frames: Frames on which superpositions are searched, beside the closest ones.
        search_closest: Frames of least RMSD on which superpositions are searched.
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
        bioemu: Constants of the BioEmu benchmark.
        two_for_one: Constants of the two-for-one evaluation.
    """

    fes_grid_size: int = Field(ge=2)
    fes_grid_margin: float = Field(ge=0)
    fes_cutoff: float = Field(gt=0)
    fes_clip: float = Field(gt=0)
    fes_smoothing: float = Field(gt=0)
    marginal_bins: int = Field(ge=2)
    q_bins: int = Field(ge=2)
    dihedral_bins: int = Field(ge=2)
    bond_bins: int = Field(ge=2)
    angle_bins: int = Field(ge=2)
    pair_distance_bins: int = Field(ge=2)
    score_bins: int = Field(ge=2)
    kl_pseudo_count: float = Field(gt=0)
    paper_fes_cutoff: float = Field(gt=0)
    minor_population: float = Field(gt=0, lt=1)
    contact_beta: float = Field(gt=0)
    contact_lambda: float = Field(ge=1)
    contact_cutoff: float = Field(gt=0)
    contact_separation: int = Field(ge=1)
    unfolded_q: float = Field(gt=0, lt=1)
    folded_q: float = Field(gt=0, lt=1)
    folded_rmsd_percentile: float = Field(ge=0, le=100)
    folded_rmsd_minimum: float = Field(gt=0)
    pair_separation: int = Field(ge=1)
    bond_minimum: float = Field(gt=0)
    bond_maximum: float = Field(gt=0)
    clash_distance: float = Field(gt=0)
    clash_separation: int = Field(ge=1)
    bond_violation_deviations: float = Field(gt=0)
    close_rmsd: float = Field(gt=0)
    bead_mass: float = Field(gt=0)
    drop_fraction: float = Field(ge=0, lt=1)
    n_start_frames: int = Field(ge=1)
    rmsd_percentile: float = Field(ge=0, le=100)
    handedness_percentile: float = Field(ge=0, le=100)
    outside_percentile: float = Field(ge=0, le=100)
    subset_frames: int = Field(ge=1)
    search_frames: int = Field(ge=1)
    search_closest: int = Field(ge=0)
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
    bioemu: BioemuConstants
    two_for_one: TwoForOneConstants
