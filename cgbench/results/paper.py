"""What the analysis of the reference work (Majewski et al., 2023) finds for one ensemble.

Every constant says where it is from. Numbers that follow from constants chosen here, above all the
macrostates of eleven of the twelve proteins, cannot be compared with the published ones digit by
digit. Times and fluxes of coarse-grained dynamics are in its own time and are never ranked.
"""

from typing import Annotated, Final, Literal

import pydantic

from cgbench.config import Frozen
from cgbench.results.fields import Count, Finite, Fraction, Name, NotNegative, Positive, Text

PaperStatus = Literal["ok", "degenerate", "n/a"]
PaperSource = Literal["paper", "repository", "chosen here"]

#: How the ± of the reference work is to be read.
SPREAD_LABEL: Final = (
    "mean and standard deviation of models that each leave out a part of the trajectories; with "
    "a tenth left out, about a third of the standard error"
)
_MOST_TRAJECTORIES: Final = 100_000
_MOST_MACROSTATES: Final = 100
_Macrostate = Annotated[int, pydantic.Field(ge=0, lt=_MOST_MACROSTATES)]


class PaperSetting(Frozen):
    """One constant of the analysis.

    Attributes:
        name: What it is, as in the registry.
        value: Its value; None where it is found from the data.
        unit: Its unit; "1" for a pure number.
        source: Where it is from.
        reason: Why it was chosen here, or where the source states it.
    """

    name: Name
    value: Finite | Name | None
    unit: Name
    source: PaperSource
    reason: Text | None = None


class PaperSpread(Frozen):
    """Mean and standard deviation of a number over models of part of the trajectories.

    The spread is that of the reference work, much smaller than the standard error: see
    :data:`SPREAD_LABEL`.
    """

    mean: Finite
    deviation: NotNegative
    n_models: Annotated[int, pydantic.Field(ge=1)]


class PaperMacrostate(Frozen):
    """One macrostate; averages are weighted by the stationary distribution.

    Attributes:
        index: Its number; the most probable has 0.
        n_microstates: Microstates in it.
        n_frames: Frames in it.
        probability: Equilibrium probability.
        probability_spread: The same in models of part of the trajectories, macrostates kept.
        rmsd_mean: Mean Cα RMSD to the native structure in Å.
        rmsd_deviation: Standard deviation of the RMSD in Å.
        rmsd_minimum: Least RMSD of its frames in Å.
        rmsd_spread: Mean RMSD in models of part of the trajectories.
        q_mean: Mean fraction of native contacts.
        folded_fraction: Fraction of its frames in the reference's folded basin.
        gdt_ts_mean: Mean GDT-TS, 0 to 1, of ``searched_frames`` frames drawn by their weight.
        gdt_ts_of_minimum: GDT-TS of the frame of least RMSD.
        searched_frames: Frames that GDT-TS was searched on.
        network_energy_mean: Mean energy of the network in kcal/mol.
        network_energy_deviation: Its standard deviation in kcal/mol.
        propensities: Fraction of frames within the registry's distance of each native element of
            secondary structure, by element.
    """

    index: _Macrostate
    n_microstates: Count
    n_frames: Count
    probability: Fraction
    probability_spread: PaperSpread | None = None
    rmsd_mean: NotNegative
    rmsd_deviation: NotNegative
    rmsd_minimum: NotNegative
    rmsd_spread: PaperSpread | None = None
    q_mean: Fraction
    folded_fraction: Fraction
    gdt_ts_mean: Fraction | None = None
    gdt_ts_of_minimum: Fraction | None = None
    searched_frames: Count = 0
    network_energy_mean: Finite | None = None
    network_energy_deviation: NotNegative | None = None
    propensities: dict[Name, Fraction] = pydantic.Field(default_factory=dict, max_length=200)


class PaperTable(Frozen):
    """The macrostates of one set of trajectories.

    Attributes:
        macrostates: In the order of their index.
        native: Index of the macrostate that holds the frame of least RMSD.
        unfolded: Index of the other macrostate with the lowest fraction of native contacts.
        macrostates_source: Where their number is from.
        macrostates_how: How it was found.
        n_microstates: Clusters.
        n_connected: Clusters in the largest connected set.
        connected_fraction: Fraction of the frames in that set; the others weigh nothing.
        lag_ps: Lag of the Markov state model.
        frame_interval_ps: Time between the frames that were used.
        n_trajectories: Trajectories.
        n_frames: Frames that were used.
        slowest_timescale_ps: Slowest implied timescale of the model, in its own time.
    """

    macrostates: tuple[PaperMacrostate, ...] = pydantic.Field(
        min_length=1, max_length=_MOST_MACROSTATES
    )
    native: _Macrostate
    unfolded: _Macrostate | None
    macrostates_source: PaperSource
    macrostates_how: Text
    n_microstates: Count
    n_connected: Count
    connected_fraction: Fraction
    lag_ps: Positive
    frame_interval_ps: Positive
    n_trajectories: Count
    n_frames: Count
    slowest_timescale_ps: Positive | None = None

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> "PaperTable":
        n_macrostates = len(self.macrostates)
        if [item.index for item in self.macrostates] != list(range(n_macrostates)):
            raise ValueError("macrostates are not in the order of their index")
        named = [self.native] if self.unfolded is None else [self.native, self.unfolded]
        if max(named) >= n_macrostates:
            raise ValueError("native or unfolded names no macrostate")
        if self.unfolded == self.native:
            raise ValueError("one macrostate cannot be both native and unfolded")
        return self

    def label(self, index: int) -> str:
        """Return what a macrostate is called.

        The native one is so by definition; where most of it is not folded, its name says that it
        only holds the closest frame.
        """
        if index == self.native:
            folded = self.macrostates[index].folded_fraction >= 0.5
            return f"{index} (native)" if folded else f"{index} (closest to native)"
        return f"{index} (unfolded)" if index == self.unfolded else str(index)


class PaperTransitions(Frozen):
    """Passages of each trajectory into and out of the native macrostate, seen once every lag.

    Attributes:
        into_native: Passages into it, by trajectory in the order of the ensemble.
        out_of_native: Passages out of it.
        n_started_unfolded: Trajectories whose first frame is unfolded by the fraction of native
            contacts.
        native_from_unfolded: Those of them that reach the native macrostate.
        folded_from_unfolded: Those of them that reach the reference's folded basin; a model's own
            native macrostate may be far from it.
    """

    into_native: tuple[Count, ...] = pydantic.Field(max_length=_MOST_TRAJECTORIES)
    out_of_native: tuple[Count, ...] = pydantic.Field(max_length=_MOST_TRAJECTORIES)
    n_started_unfolded: Count
    native_from_unfolded: Count
    folded_from_unfolded: Count

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> "PaperTransitions":
        if len(self.into_native) != len(self.out_of_native):
            raise ValueError("into_native and out_of_native differ in length")
        if max(self.native_from_unfolded, self.folded_from_unfolded) > self.n_started_unfolded:
            raise ValueError("more trajectories fold from unfolded than start there")
        return self


class PaperPathway(Frozen):
    """One way from the unfolded to the native macrostate and its share of the reactive flux."""

    macrostates: tuple[_Macrostate, ...] = pydantic.Field(
        min_length=2, max_length=_MOST_MACROSTATES
    )
    percentage: Annotated[float, pydantic.Field(ge=0.0, le=100.0 + 1e-6)]


class PaperPathways(Frozen):
    """Reactive flux from the unfolded to the native macrostate.

    Attributes:
        source: Index of the unfolded macrostate.
        target: Index of the native macrostate.
        committor: Probability of each macrostate's frames to reach the native macrostate next.
        net_flux: Net flux between macrostates in 1/ps of the model's own time, row to column.
        total_flux: Reactive flux in 1/ps of the model's own time.
        mean_first_passage_ps: Mean time from the unfolded to the native macrostate.
        pathways: The widest first.
    """

    source: _Macrostate
    target: _Macrostate
    committor: tuple[Fraction, ...] = pydantic.Field(max_length=_MOST_MACROSTATES)
    net_flux: tuple[tuple[NotNegative, ...], ...] = pydantic.Field(max_length=_MOST_MACROSTATES)
    total_flux: NotNegative
    mean_first_passage_ps: Positive | None
    pathways: tuple[PaperPathway, ...] = pydantic.Field(max_length=1000)


class PaperEnergy(Frozen):
    """Whether the network's energy alone would find the native macrostate.

    Attributes:
        lowest: Index of the macrostate of least mean network energy.
        native_is_lowest_energy: Whether that is the native macrostate.
        gap: Mean energy of the native macrostate less the least of the others, kcal/mol.
        gap_spread: The same in models of part of the trajectories.
        models_in_favour: In how many of those the native macrostate has the least energy.
    """

    lowest: _Macrostate
    native_is_lowest_energy: bool
    gap: Finite
    gap_spread: PaperSpread | None = None
    models_in_favour: Count | None = None


class PaperElement(Frozen):
    """One element of the native secondary structure.

    Attributes:
        name: As in the registry.
        residues: Zero-based half-open ranges of beads.
        source: Where it is from.
    """

    name: Name
    residues: tuple[tuple[Count, Count], ...] = pydantic.Field(min_length=1, max_length=20)
    source: Name


class PaperAnalysis(Frozen):
    """The analysis of the reference work, for one ensemble and for the reference beside it.

    Attributes:
        status: ``ok``; ``degenerate`` where the ensemble has no Markov state model with macrostates
            to speak of; ``n/a`` where the analysis has no meaning, as without time order.
        reason: Why it is not ``ok``.
        settings: Every constant with its source.
        n_trajectories: Trajectories of the ensemble.
        n_frames: Frames after the dropped start, those lost included.
        alive_fraction: Fraction of them before their trajectory's first bad frame.
        connected_fraction: Fraction of the living ones in the largest connected set.
        table: The ensemble's macrostates.
        transitions: Passages into and out of the native macrostate.
        pathways: Reactive flux from the unfolded to the native macrostate.
        energy: The energy criterion, where the network's energies are known.
        elements: Native elements of secondary structure.
        element_distance: RMSD in Å within which an element counts as formed.
        reference: The same table for the reference simulation.
        reference_pathways: Reactive flux in the reference simulation.
        reference_status: As ``status``, for the reference.
        reference_reason: Why that is not ``ok``.
        spread_label: How to read every ±.
        notes: What else to know.
    """

    status: PaperStatus
    reason: Text | None = None
    settings: tuple[PaperSetting, ...] = pydantic.Field(default=(), max_length=100)
    n_trajectories: Count = 0
    n_frames: Count = 0
    alive_fraction: Fraction = 0.0
    connected_fraction: Fraction | None = None
    table: PaperTable | None = None
    transitions: PaperTransitions | None = None
    pathways: PaperPathways | None = None
    energy: PaperEnergy | None = None
    elements: tuple[PaperElement, ...] = pydantic.Field(default=(), max_length=200)
    element_distance: Positive | None = None
    reference: PaperTable | None = None
    reference_pathways: PaperPathways | None = None
    reference_status: PaperStatus = "ok"
    reference_reason: Text | None = None
    spread_label: Text = SPREAD_LABEL
    notes: tuple[Text, ...] = pydantic.Field(default=(), max_length=100)

    @pydantic.model_validator(mode="after")
    def _explained(self) -> "PaperAnalysis":
        for status, reason in (
            (self.status, self.reason),
            (self.reference_status, self.reference_reason),
        ):
            if status != "ok" and not reason:
                raise ValueError(f"an analysis that is {status} says why")
        if self.status == "ok" and self.table is None:
            raise ValueError("an analysis that is ok has a table")
        if self.status == "n/a" and self.table is not None:
            raise ValueError("an analysis that has no meaning has no table")
        return self
