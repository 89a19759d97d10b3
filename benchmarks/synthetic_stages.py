"""The stages of the benchmark of synthetic systems; each keeps what an earlier run finished."""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pydantic
import torch
from synthetic_cases import MULTI_PROTEIN, PAIR_SPLINE, Case

from cgbench.config import Frozen, fingerprint, read_model, write_model
from cgbench.evaluate import (
    Ensemble,
    ReferenceStatistics,
    Scored,
    md_split_half,
    read_reference,
    reference_statistics,
    score,
)
from cgbench.models import NetworkPotential, PotentialSpec, load_model, model_hash, save_model
from cgbench.pipeline.forces import force_errors
from cgbench.pipeline.mutants import evaluate_mutants
from cgbench.pipeline.simulate import system_input
from cgbench.simulation import simulate
from cgbench.store import find_reference, open_store, read_trajectories
from cgbench.testing.synthetic import data_key, generating_model
from cgbench.train import train
from cgbench.train.pair_spline import train_pair_spline

#: Rows of each protein; the last is no model but the reference against its own halves.
RowName = Literal[
    "generating", "multi-protein", "leave-one-out", "prior", "pair-spline", "md_split_half"
]


class Row(Frozen):
    """One model on one synthetic system.

    Attributes:
        system: Key of a protein or variant.
        row: What was scored.
        status: ``ok``, or ``failed`` with the reason.
        reason: Why it failed.
        forces: Mean square force error on each trajectory of the test part, (kcal/mol/Å)²; none
            for no model.
        w1_tic1: Wasserstein distance on the first slow coordinate, in σ of the reference; None
            where only forces were looked at.
        w1_lo: Lower end of its 95 % interval.
        w1_hi: Upper end.
        fes_rmse: Error of the free energy surface in kcal/mol.
        synthetic: Always true.
    """

    system: str
    row: RowName
    status: Literal["ok", "failed"] = "ok"
    reason: str | None = None
    forces: tuple[float, ...] = ()
    w1_tic1: float | None = None
    w1_lo: float | None = None
    w1_hi: float | None = None
    fes_rmse: float | None = None
    synthetic: Literal[True] = True


class VariantRow(Frozen):
    """A model on a variant that it was not trained on.

    Attributes:
        variant: Its key.
        row: ``generating`` of the variant, ``multi-protein`` or its ``prior``.
        forces: Mean square force error on each trajectory of its test part, (kcal/mol/Å)².
        status: What became of it in the first stage of the variants' test; None where that was
            not done.
        median_q: Median fraction of native contacts at the end of it.
        controls: What became of the controls of its parent there.
        recovered: Whether the native state was reached from an unfolded start in the second stage;
            None where there was none.
    """

    variant: str
    row: Literal["generating", "multi-protein", "prior"]
    forces: tuple[float, ...]
    status: str | None = None
    median_q: float | None = None
    controls: dict[str, str] = pydantic.Field(default_factory=dict)
    recovered: bool | None = None
    synthetic: Literal[True] = True


class _Kept(Frozen):
    """A row with what it was made from."""

    made_from: str
    row: Row


def one_thread() -> None:
    """Let a process of several use one core."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)


def train_stage(case: Case, work: Path, home: Path, left_out: str | None) -> str:
    """Train on all proteins or on all but one; return the name of the run."""
    name = MULTI_PROTEIN if left_out is None else f"lopo-{left_out}"
    train(case.training(left_out), work / name, home=home, resume=True)
    model = load_model(work / name / "model.pt")
    spec = PotentialSpec(name=f"synthetic/prior-{name}", trained_on=model.spec.trained_on)
    save_model(work / name / "prior.pt", NetworkPotential(None, model.prior, spec))
    return name


def pair_spline_stage(case: Case, work: Path, home: Path) -> str:
    """Fit the pairwise potential; return the name of the run."""
    train_pair_spline(case.pair_spline(), work / PAIR_SPLINE, home=home)
    return PAIR_SPLINE


def models_of(work: Path, home: Path, system: str) -> dict[RowName, Path]:
    """Return the model of each row of a protein."""
    return {
        "generating": generating_model(home, system),
        "multi-protein": work / MULTI_PROTEIN / "model.pt",
        "leave-one-out": work / f"lopo-{system}" / "model.pt",
        "prior": work / MULTI_PROTEIN / "prior.pt",
        "pair-spline": work / PAIR_SPLINE / "model.pt",
    }


def score_stage(case: Case, work: Path, home: Path, system: str) -> list[Row]:
    """Simulate and score every row of a protein."""
    bundle = read_reference(find_reference(system, home))
    models = models_of(work, home, system)
    folder = work / "scores" / system
    statistics = None
    rows = []
    for name, path in [*models.items(), ("md_split_half", None)]:
        kept = folder / f"{name}.json"
        identity = bundle.fingerprint if path is None else model_hash(path)
        made_from = fingerprint(
            [identity, bundle.fingerprint, case.protocol.model_dump(mode="json"), case.n_resamples]
        )
        if kept.is_file() and (found := read_model(_Kept, kept)).made_from == made_from:
            rows.append(found.row)
            continue
        if statistics is None:
            statistics = reference_statistics(
                bundle, seed=case.data.seed, n_resamples=case.n_resamples, workers=1
            )
        if path is None:
            row = _row(
                system, name, md_split_half(bundle, seed=case.data.seed, reference=statistics)
            )
        elif name == PAIR_SPLINE:
            row = Row(system=system, row=name, forces=_forces(load_model(path), system, home))
        else:
            row = _row(system, name, _scored(case, home, system, name, path, folder, statistics))
            row = row.model_copy(update={"forces": _forces(load_model(path), system, home)})
        write_model(kept, _Kept(made_from=made_from, row=row))
        rows.append(row)
    return rows


def _scored(
    case: Case,
    home: Path,
    system: str,
    name: str,
    path: Path,
    folder: Path,
    statistics: ReferenceStatistics,
) -> Scored:
    potential, identity = load_model(path), model_hash(path)
    bundle = read_reference(find_reference(system, home))
    store = open_store(system, home)
    firsts = [first for first, _ in store.trajectory_bounds]
    starts = np.concatenate([store.coordinates(first, first + 1) for first in firsts])
    out = folder / f"{name}-{identity.removeprefix('sha256:')[:12]}.zarr"
    simulate(
        potential,
        replace(system_input(system, home, bundle), starts=torch.from_numpy(starts)),
        case.protocol,
        seed=case.data.seed + 1,
        out=out,
        model_hash=identity,
    )
    scored = score(
        Ensemble.from_trajectory_set(read_trajectories(out, system), name=name),
        bundle,
        protocol=case.protocol,
        seed=case.data.seed,
        reference=statistics,
        workers=1,
    )
    shutil.rmtree(out)
    return scored


def _row(system: str, name: RowName, scored: Scored) -> Row:
    metrics = scored.result.metrics
    first = metrics["w1_tic1"]
    return Row(
        system=system,
        row=name,
        status="ok" if scored.result.status == "ok" else "failed",
        reason=scored.result.reason,
        w1_tic1=first.value,
        w1_lo=first.lo,
        w1_hi=first.hi,
        fes_rmse=metrics["fes_rmse"].value,
    )


def _forces(potential: NetworkPotential, system: str, home: Path) -> tuple[float, ...]:
    """Return the mean square force error on each trajectory of the test part."""
    errors = force_errors(potential, system, home=home)
    return tuple((errors.squared / errors.count).tolist())


def variant_stage(case: Case, work: Path, home: Path) -> list[VariantRow]:
    """Test the multi-protein model and its prior on variants: forces, and what stays folded."""
    if not case.variants:
        return []
    tested: dict[str, Path] = {
        MULTI_PROTEIN: work / MULTI_PROTEIN / "model.pt",
        "prior": work / MULTI_PROTEIN / "prior.pt",
    }
    outcomes = {
        name: evaluate_mutants(
            path,
            case.variants,
            protocol=case.second_stage if name == MULTI_PROTEIN else None,
            screening=case.screening,
            out=work / "mutants" / name,
            home=home,
        )
        for name, path in tested.items()
    }
    rows = []
    for variant in case.variants:
        own = data_key(variant)
        exact = _forces(load_model(generating_model(home, variant)), own, home)
        rows.append(VariantRow(variant=variant, row="generating", forces=exact))
        for name in (MULTI_PROTEIN, "prior"):
            (found,) = (one for one in outcomes[name].variants if one.key == variant)
            (parent,) = (one for one in outcomes[name].parents if one.parent == found.parent)
            rows.append(
                VariantRow(
                    variant=variant,
                    row="prior" if name == "prior" else "multi-protein",
                    forces=_forces(load_model(tested[name]), own, home),
                    status=found.status,
                    median_q=found.median_q,
                    controls={one.name: one.status for one in parent.controls},
                    recovered=found.recovered,
                )
            )
    return rows
