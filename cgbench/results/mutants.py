"""What the test of variants says: which stay folded, which are recovered, and whether it counts."""

from typing import Annotated, Literal

import pydantic

from cgbench.config import Frozen
from cgbench.results.fields import Count, Finite, Name, NotNegative, Text

#: ``stays`` at or above the least median Q, ``unfolds`` below it, ``lost`` when the chain broke or
#: its energy was no number, ``failed`` when the model cannot simulate it, ``missing`` without
#: native structure.
ScreeningStatus = Literal["stays", "unfolds", "lost", "failed", "missing"]


class ControlOutcome(Frozen):
    """A control of a parent in stage one.

    Attributes:
        name: ``wild-type``, ``shuffled`` or ``poly-glycine``.
        sequence: One letter for each bead.
        status: What became of it.
        median_q: Median fraction of the parent's native contacts over the window.
        reason: Why there is none.
    """

    name: Literal["wild-type", "shuffled", "poly-glycine"]
    sequence: Name
    status: ScreeningStatus
    median_q: Annotated[float, pydantic.Field(ge=0.0, le=1.0)] | None
    reason: Text | None = None


class ParentOutcome(Frozen):
    """The controls of one parent.

    Attributes:
        parent: Registry key.
        controls: Its controls.
        controls_unfold: Whether all controls but the wild type unfold, without which no recovery
            counts; None where one of them could not be simulated.
    """

    parent: Name
    controls: tuple[ControlOutcome, ...]
    controls_unfold: bool | None


class VariantOutcome(Frozen):
    """One variant.

    Attributes:
        key: ``<parent>-<PDB id>``.
        parent: Registry key of the parent.
        pdb_id: The entry.
        sequence: One letter for each bead; None where the entry is not at hand.
        mutations: Differences from the parent.
        scored_beads: Half-open range of beads, from 0, that are scored.
        status: What became of it in stage one.
        median_q: Median fraction of its native contacts over the window.
        unfolded_starts: Trajectories of stage two that started with Q below the registry's limit
            of unfolded; None without stage two.
        reached_native: How many of those reached the native state.
        recovered: Whether at least one did; None without stage two or without unfolded starts.
        counts: Whether that counts: the controls other than the wild type unfold.
        reason: Why it has no value, or what keeps it from counting.
    """

    key: Name
    parent: Name
    pdb_id: Name
    sequence: Name | None
    mutations: tuple[Name, ...] | None
    scored_beads: tuple[int, int] | None
    status: ScreeningStatus
    median_q: Annotated[float, pydantic.Field(ge=0.0, le=1.0)] | None = None
    unfolded_starts: Count | None = None
    reached_native: Count | None = None
    recovered: bool | None = None
    counts: bool | None = None
    reason: Text | None = None


class MutantsOutcome(Frozen):
    """The test of variants of one model.

    Attributes:
        model: Name of the model.
        model_hash: Its hash.
        screening: Protocol of stage one, with its version.
        protocol: Protocol of stage two; None where it was left out.
        window_ps: Length of the end of the trajectory that stage one looks at.
        least_q: Least median Q of a variant that stays.
        seed: Seed of all replicas.
        parents: Controls, parent by parent.
        variants: The variants, in the order of the registry.
        recovered: Variants whose recovery counts.
        tested: Variants that were simulated.
        synthetic: Whether the data at hand of a parent are of a model made to have known answers.
    """

    format: Literal["cgbench-mutants"] = "cgbench-mutants"
    version: Literal[1] = 1
    model: Name
    model_hash: Name | None
    screening: Name
    protocol: Name | None
    window_ps: NotNegative
    least_q: Finite
    seed: int
    parents: tuple[ParentOutcome, ...]
    variants: tuple[VariantOutcome, ...]
    recovered: Count
    tested: Count
    synthetic: bool = False
