"""The mutants' test: which variants stay folded, which are recovered, and whether that counts."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import yaml

from cgbench import config, registry
from cgbench.errors import CgbenchError, IntegrityError, UsageError, ValidationError
from cgbench.evaluate import Scored, write_scored
from cgbench.ingest.variants import Variant
from cgbench.models import NetworkPotential
from cgbench.pipeline.evaluate import identity_of
from cgbench.pipeline.leaks import check_leaks, with_leak
from cgbench.pipeline.left_out import local_stores
from cgbench.pipeline.mutant_outcomes import (
    absent,
    parent_outcome,
    variant_outcome,
    without_row,
)
from cgbench.pipeline.mutant_rows import VariantRun, run_variant
from cgbench.pipeline.mutant_screening import (
    Member,
    Screened,
    controls_of,
    member_of,
    screen,
    screened_or_reason,
    window_of,
)
from cgbench.pipeline.programs import AnyPotential, open_potential
from cgbench.pipeline.results import assemble, printed, write_result_of
from cgbench.pipeline.scored_rows import scored_path
from cgbench.progress import Progress, silent
from cgbench.registry import Mutant, Protocol
from cgbench.results import ModelIdentity, Result, SystemResult
from cgbench.results.mutants import (
    MutantsOutcome,
    ParentOutcome,
    VariantOutcome,
)

if TYPE_CHECKING:
    from cgbench.adapters import AdapterChoice


@dataclass(frozen=True)
class _Named:
    version: str
    fingerprint: str


@dataclass(frozen=True)
class _Test:
    """What a test of variants is asked for."""

    potential: AnyPotential
    identity: ModelIdentity
    model_hash: str
    screening: Protocol
    protocol: Protocol | None
    out: Path
    seed: int
    force: bool
    home: Path | None
    synthetic: bool


def evaluate_mutants(
    model: str | Path,
    variants: Sequence[str] | None = None,
    *,
    protocol: str | None = "standard",
    screening: Protocol | None = None,
    out: Path,
    seed: int = 1,
    threads: int | None = None,
    trust: bool = False,
    adapter: "AdapterChoice | None" = None,
    force: bool = False,
    home: Path | None = None,
    progress: Progress = silent,
) -> MutantsOutcome:
    """Test a model on variants: do they stay folded, are they recovered, and does that count?

    Writes ``mutants.json`` and, with a row ``<parent>-<PDB>`` for each variant, ``result.json``.
    What is simulated already is kept.

    Args:
        model: A model file, or the name of a model.
        variants: Keys of variants; all of the registry if None.
        protocol: Protocol of the second stage; None leaves it out.
        screening: Protocol of the first stage; the registry's if None.
        out: The run folder.
        seed: Seed of replicas and resamples.
        threads: Threads of torch.
        trust: Whether a program may be opened, or an adapter may run foreign code.
        adapter: What opens a model of another program.
        force: Simulate again whatever is there.
        home: Data home.
        progress: Told how far it is.

    Raises:
        UsageError: The model, a variant or a protocol is unknown, or the folder holds another run.
        ValidationError: The model covers the beads of none of the variants.
    """
    began = time.monotonic()
    opened = open_potential(model, home, trust=trust, adapter=adapter)
    identity = identity_of(opened)
    chosen = [registry.mutant(key) for key in variants or [one.key for one in registry.mutants()]]
    test = _Test(
        potential=opened.potential,
        identity=identity,
        model_hash=opened.hash,
        screening=screening or registry.protocol(registry.mutant_screening().protocol),
        protocol=None if protocol is None else registry.protocol(protocol),
        out=out,
        seed=seed,
        force=force,
        home=home,
        synthetic=_synthetic(chosen, home),
    )
    if test.protocol is not None and test.protocol.start != "k-centres":
        raise UsageError(f"{protocol}: no protocol of the second stage", fix="give standard")
    if threads is not None:
        torch.set_num_threads(threads)
    _settle(test, chosen)
    parents: list[ParentOutcome] = []
    outcomes: list[VariantOutcome] = []
    rows: dict[str, VariantRun] = {}
    for parent in dict.fromkeys(one.parent for one in chosen):
        family = [one for one in chosen if one.parent == parent]
        controls, found = _test_parent(test, parent, family, rows, progress)
        parents.append(controls)
        outcomes += found
        # Written parent by parent, so that an interrupt keeps what is done.
        outcome = _outcome(test, parents, outcomes)
        config.write_model(out / "mutants.json", outcome)
        result = _result(test, outcomes, rows, chosen, time.monotonic() - began)
        write_result_of(out, result)
    tested = [one for one in outcomes if one.status != "missing"]
    if tested and all(one.status == "failed" for one in tested):
        raise ValidationError(
            f"{identity.name}: no variant could be tested",
            found="; ".join(f"{one.key}: {one.reason}" for one in tested)[:2000],
        )
    return outcome


def _synthetic(chosen: Sequence[Mutant], home: Path | None) -> bool:
    """Return whether data of a parent or variant here are of a model with known answers."""
    keys = {one.parent for one in chosen} | {one.key.lower() for one in chosen}
    return any(store.metadata.synthetic for key, store in local_stores(home).items() if key in keys)


def _settle(test: _Test, chosen: Sequence[Mutant]) -> None:
    """Refuse a folder of another run, and write what this one is.

    Raises:
        UsageError: It is of another model, protocol or seed.
    """
    settings: dict[str, object] = {
        "model": test.identity.name,
        "model_hash": test.model_hash,
        "screening": test.screening.model_dump(mode="json"),
        "protocol": None if test.protocol is None else test.protocol.model_dump(mode="json"),
        "seed": test.seed,
        "track": "mutants",
    }
    path = test.out / "config.yaml"
    if path.is_file() and not test.force:
        before = config.read_data(path)
        before = before if isinstance(before, dict) else {}
        differing = [
            key
            for key, value in settings.items()
            # The second stage may be added later, and left out again.
            if before.get(key) != value
            and not (key == "protocol" and None in (before.get(key), value))
        ]
        if differing:
            raise UsageError(
                f"{test.out}: holds another run",
                expected=f"the same {', '.join(differing)}",
                fix="use --force to replace it, or another --out",
            )
    settings["variants"] = [one.key for one in chosen]
    config.write_atomic(path, yaml.safe_dump(settings, sort_keys=False))


def _test_parent(
    test: _Test,
    parent: str,
    family: Sequence[Mutant],
    rows: dict[str, VariantRun],
    progress: Progress,
) -> tuple[ParentOutcome, list[VariantOutcome]]:
    """Return controls and variants of one parent; the rows of those that stay are added."""
    missing: dict[str, str] = {}
    controls: list[Member] = []
    try:
        controls = controls_of(parent, test.home)
    except (UsageError, IntegrityError, ValidationError) as error:
        missing[parent] = printed(error.message)
    variants: dict[str, tuple[Variant, Member]] = {}
    for one in family:
        try:
            variants[one.key] = member_of(one.key, test.home)
        except (UsageError, IntegrityError, ValidationError) as error:
            missing[one.key] = printed(error.message)
    members = [*controls, *(member for _, member in variants.values())]
    able, screened = screened_or_reason(test.potential, members)
    for number in sorted({len(member.sequence) for member in able}):
        batch = [member for member in able if len(member.sequence) == number]
        try:
            screened |= screen(
                test.potential,
                parent,
                batch,
                test.screening,
                seed=test.seed,
                model_hash=test.model_hash,
                out=test.out / "screening.zarr",
                force=test.force,
                progress=progress,
            )
        except (UsageError, IntegrityError) as error:
            # A damaged file here, or one of another run, is no fault of the model.
            missing |= dict.fromkeys([parent, *(one.key for one in batch)], printed(error.message))
        except (CgbenchError, RuntimeError, ArithmeticError, np.linalg.LinAlgError) as error:
            told = printed(str(error))
            screened |= {member.key: Screened("failed", None, told) for member in batch}
    family_outcome = parent_outcome(parent, screened, missing.get(parent))
    outcomes = []
    for one in family:
        if one.key in missing:
            outcomes.append(absent(one, missing[one.key]))
            continue
        variant, member = variants[one.key]
        found = screened[one.key]
        run: VariantRun | None = None
        reason = found.reason
        if found.status == "stays" and test.protocol is not None:
            run, second = _second_stage(test, test.protocol, variant, member, progress)
            reason = second or reason
            if run is not None:
                rows[one.key] = run
        outcomes.append(variant_outcome(variant, found, run, reason, family_outcome))
    return family_outcome, outcomes


def _second_stage(
    test: _Test, protocol: Protocol, variant: Variant, member: Member, progress: Progress
) -> tuple[VariantRun | None, str | None]:
    try:
        run = run_variant(
            test.potential,
            variant,
            member,
            protocol,
            name=test.identity.name,
            seed=test.seed,
            model_hash=test.model_hash,
            out=test.out / "trajectories.zarr",
            force=test.force,
            home=test.home,
            progress=progress,
        )
    except (CgbenchError, RuntimeError, ArithmeticError, np.linalg.LinAlgError) as error:
        return None, printed(f"second stage: {error}")
    leak = check_leaks(
        test.potential.spec,
        variant.key,
        prior=test.potential.prior if isinstance(test.potential, NetworkPotential) else None,
        sequence=variant.sequence,
        home=test.home,
    )
    run = replace(run, row=with_leak(run.row, "mutants", leak))
    write_scored(scored_path(test.out, variant.key), run.row)
    return run, None


def _outcome(
    test: _Test, parents: Sequence[ParentOutcome], outcomes: Sequence[VariantOutcome]
) -> MutantsOutcome:
    return MutantsOutcome(
        model=test.identity.name,
        model_hash=test.model_hash,
        screening=f"{test.screening.id} version {test.screening.version}",
        protocol=None if test.protocol is None else test.protocol.id,
        window_ps=window_of(test.screening),
        least_q=registry.mutant_screening().least_q,
        seed=test.seed,
        parents=tuple(parents),
        variants=tuple(outcomes),
        recovered=sum(bool(one.recovered and one.counts) for one in outcomes),
        tested=sum(one.status not in ("missing", "failed") for one in outcomes),
        synthetic=test.synthetic,
    )


def _result(
    test: _Test,
    outcomes: Sequence[VariantOutcome],
    rows: Mapping[str, VariantRun],
    chosen: Sequence[Mutant],
    seconds: float,
) -> Result:
    """Return the result: rows of the second stage, and why the others have none."""
    scored: dict[str, Scored] = {key: run.row for key, run in rows.items()}
    others = {
        one.key: without_row(one, synthetic=test.synthetic)
        for one in outcomes
        if one.key not in rows
    }
    waiting = {
        one.key: SystemResult(
            system=one.key,
            status="missing",
            reason="not tested yet: run the same command again",
            synthetic=test.synthetic,
        )
        for one in chosen
        if one.key not in others and one.key not in rows
    }
    return assemble(
        test.identity,
        scored,
        [*others.values(), *waiting.values()],
        bundles={key: _Named("variant", run.reference) for key, run in rows.items()},
        protocol=test.protocol,
        splits={},
        seeds={"simulation": test.seed, "resampling": test.seed},
        wall_time=seconds,
        track="mutants",
    )
