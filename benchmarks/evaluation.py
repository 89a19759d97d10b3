"""Seconds and memory of scoring large ensembles with every metric, and where the time goes.

    python benchmarks/evaluation.py [--case chignolin] [--case lambda] [--workers N] [--out FILE]

One million frames of chignolin are the embedded reference's own kept frames, repeated in the order
of a jump process between its microstates, with thermal noise on top. 200,000 frames of
λ-repressor's size (80 beads) are synthetic: a bundle of helices that opens and closes along smooth
modes of the chain, with a reference of the same kind. A reference's per-frame numbers are repeated
until there are as many as a published one has. Every case is scored in a process of its own, whose
peak resident memory is told; the frames themselves are part of it. Compiled functions are warmed
up on a few frames first, as they are after the first run on a machine. Takes some minutes.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from cgbench import provenance, registry
from cgbench.config import Frozen, write_model
from cgbench.evaluate import (
    Ensemble,
    ReferenceBundle,
    Scored,
    read_reference,
    reference_statistics,
    score,
)
from cgbench.evaluate.observables import Observables, default_workers
from cgbench.evaluate.reference import ReferenceInput, build_from_trajectories
from cgbench.store import find_reference

RESULTS = Path(__file__).parent / "results" / "evaluation.json"
N_TRAJECTORIES = 32
SEED = 1
#: Frames of an ensemble, frames of its reference, and seconds that scoring may take.
CASES = {
    "chignolin": {"frames": 1_000_000, "reference_frames": 1_900_000, "goal_seconds": 60.0},
    "lambda": {"frames": 200_000, "reference_frames": 3_000_000, "goal_seconds": 300.0},
}
GOAL_MEGABYTES = 4096.0


class Measurement(Frozen):
    """One case.

    Attributes:
        case: Name of the case.
        n_beads: Beads of the chain.
        frames: Frames that were scored.
        trajectories: Their trajectories.
        reference_frames: Frames of the reference.
        resamples: Number of resamples.
        workers: Threads.
        seconds: Wall time of counting the reference and scoring the ensemble.
        goal_seconds: What it should stay under.
        stages: Seconds by stage.
        peak_resident_megabytes: Of the whole process, the frames included.
        goal_megabytes: What it should stay under.
    """

    case: str
    n_beads: int
    frames: int
    trajectories: int
    reference_frames: int
    resamples: int
    workers: int
    seconds: float
    goal_seconds: float
    stages: dict[str, float]
    peak_resident_megabytes: float
    goal_megabytes: float


class Benchmark(Frozen):
    """All cases, with the machine that they ran on."""

    measurements: tuple[Measurement, ...]
    provenance: provenance.Provenance


def chignolin(n_frames: int) -> tuple[ReferenceBundle, list[NDArray[np.float32]]]:
    """Return the embedded reference and trajectories that jump between its microstates."""
    bundle = read_reference(find_reference("chignolin-sample"))
    random = np.random.default_rng(SEED)
    states = bundle.observables.microstate[bundle.subset_frames]
    kept = [np.flatnonzero(states == state) for state in range(bundle.n_microstates)]
    counts = bundle.counts.total(np.ones(bundle.counts.n_trajectories)) + 1e-9
    counts[:, [len(frames) == 0 for frames in kept]] = 0.0
    cumulative = np.cumsum(counts, axis=1)
    cumulative /= cumulative[:, -1:]
    trajectories = []
    for _ in range(N_TRAJECTORIES):
        length = n_frames // N_TRAJECTORIES
        state, path = int(states[random.integers(len(states))]), np.empty(length, dtype=np.int64)
        for index, draw in enumerate(random.random(length)):
            state = int(np.searchsorted(cumulative[state], draw))
            path[index] = kept[state][index % len(kept[state])]
        noise = random.normal(scale=0.03, size=(length, 10, 3)).astype(np.float32)
        trajectories.append(bundle.subset_coordinates[path] + noise)
    return bundle, trajectories


def helix_bundle(n_beads: int) -> NDArray[np.float32]:
    """Return helices of 16 residues side by side, joined by straight bonds of 3.8 Å."""
    beads: list[NDArray[np.float64]] = []
    for index in range(n_beads):
        helix, place = divmod(index, 16)
        along = place if helix % 2 == 0 else 15 - place
        angle = np.radians(100.0) * place
        centre = 10.0 * np.array([helix % 2, helix // 2])
        position = np.array(
            [*(centre + 2.3 * np.array([np.cos(angle), np.sin(angle)])), 1.5 * along]
        )
        if beads:
            step = position - beads[-1]
            position = beads[-1] + 3.8 * step / np.linalg.norm(step)
        beads.append(position)
    return np.asarray(beads, dtype=np.float32)


def opening_chains(
    native: NDArray[np.float32], n_trajectories: int, length: int, seed: int
) -> list[NDArray[np.float32]]:
    """Return trajectories that open and close along smooth modes of the chain."""
    random = np.random.default_rng(seed)
    n_beads = len(native)
    modes: NDArray[np.float64] = np.stack(
        [
            np.cos(np.pi * (k + 1) * (np.arange(n_beads) + 0.5) / n_beads)[:, None] * axis / (k + 1)
            for k, axis in enumerate(random.normal(size=(6, 3)))
        ]
    )
    trajectories = []
    for _ in range(n_trajectories):
        state = random.integers(2)
        target = np.empty(length)
        flips = random.random(length) < 0.01
        for index, flip in enumerate(flips):
            state = 1 - state if flip else state
            target[index] = 9.0 * state
        amplitude = np.zeros((length, 6))
        noise = random.normal(size=(length, 6))
        for index in range(1, length):
            pull = np.zeros(6)
            pull[0] = target[index]
            amplitude[index] = amplitude[index - 1] + 0.15 * (pull - amplitude[index - 1])
            amplitude[index] += 0.5 * noise[index]
        frames: NDArray[np.float64] = native.astype(np.float64) + np.tensordot(
            amplitude, modes, axes=1
        )
        frames += random.normal(scale=0.15, size=frames.shape)
        trajectories.append(frames.astype(np.float32))
    return trajectories


def lambda_repressor(n_frames: int) -> tuple[ReferenceBundle, list[NDArray[np.float32]]]:
    """Return a synthetic reference of 80 beads and trajectories of the same kind."""
    entry = registry.system("lambda")
    native = helix_bundle(entry.n_beads)
    settings = entry.analysis.model_copy(
        update={"tica_lag_ps": 10.0, "msm_lag_ps": 10.0, "n_macrostates": 2}
    )
    trajectories = opening_chains(native, 60, 500, SEED)
    source = ReferenceInput(
        system=entry.model_copy(update={"analysis": settings}),
        trajectories=trajectories,
        valid=np.ones(sum(map(len, trajectories)), dtype=bool),
        native=native,
        frame_interval=1.0,
        store_fingerprint="sha256:" + "0" * 64,
    )
    bundle = build_from_trajectories(source, n_resamples=2)
    return bundle, opening_chains(native, N_TRAJECTORIES, n_frames // N_TRAJECTORIES, SEED + 1)


def enlarged(bundle: ReferenceBundle, n_frames: int) -> ReferenceBundle:
    """Return a bundle with its trajectories repeated until there are enough frames."""
    found = bundle.observables
    copies = -(-n_frames // found.n_frames)

    def repeated(name: str) -> Any:
        values = getattr(found, name)
        return np.concatenate([values] * copies)

    names = [name for name in Observables.__dataclass_fields__ if name != "n_trajectories"]
    arrays = {name: repeated(name) for name in names}
    shifts = np.repeat(np.arange(copies, dtype=np.int32), found.n_frames) * found.n_trajectories
    arrays["trajectory"] = (arrays["trajectory"] + shifts).astype(np.int32)
    observables = Observables(**arrays, n_trajectories=copies * found.n_trajectories)
    return replace(bundle, observables=observables)


def scored_once(
    bundle: ReferenceBundle, trajectories: list[NDArray[np.float32]], workers: int
) -> tuple[Scored, dict[str, float], float]:
    """Return the row, the seconds by stage, and those of counting the reference and scoring."""
    ensemble = Ensemble.from_arrays(
        bundle.system, trajectories, frame_interval=0.2, name="benchmark"
    )
    began = time.perf_counter()
    statistics = reference_statistics(bundle, seed=SEED, workers=workers)
    row = score(ensemble, bundle, seed=SEED, reference=statistics, workers=workers)
    seconds = time.perf_counter() - began
    return row, statistics.timings | row.timings, seconds


def measure(case: str, workers: int) -> Measurement:
    """Score one case in this process."""
    facts = CASES[case]
    make = chignolin if case == "chignolin" else lambda_repressor
    bundle, trajectories = make(int(facts["frames"]))
    few = [frames[:20] for frames in trajectories]
    scored_once(bundle, few, workers)
    bundle = enlarged(bundle, int(facts["reference_frames"]))
    row, stages, seconds = scored_once(bundle, trajectories, workers)
    if row.result.status != "ok":
        raise SystemExit(f"{case}: {row.result.reason}")
    return Measurement(
        case=case,
        n_beads=len(bundle.native),
        frames=sum(map(len, trajectories)),
        trajectories=len(trajectories),
        reference_frames=bundle.observables.n_frames,
        resamples=registry.constants().n_resamples,
        workers=workers,
        seconds=round(seconds, 2),
        goal_seconds=facts["goal_seconds"],
        stages={name: round(value, 2) for name, value in stages.items()},
        peak_resident_megabytes=round(
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0, 1
        ),
        goal_megabytes=GOAL_MEGABYTES,
    )


def in_a_process(case: str, workers: int) -> Measurement:
    """Score one case in a process of its own."""
    command = [sys.executable, __file__, "--inside", case, "--workers", str(workers)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return Measurement.model_validate(json.loads(output.splitlines()[-1]))


def table(measurements: tuple[Measurement, ...]) -> Table:
    """Return what is shown."""
    shown = Table(title="Scoring with every metric", title_justify="left")
    for name in ("case", "stage", "seconds", "peak MB"):
        shown.add_column(name, justify="left" if name in ("case", "stage") else "right")
    for one in measurements:
        goal = f"{one.seconds:.1f} of {one.goal_seconds:.0f}"
        shown.add_row(one.case, "all", goal, f"{one.peak_resident_megabytes:.0f}")
        for stage, seconds in sorted(one.stages.items(), key=lambda item: -item[1]):
            shown.add_row("", stage, f"{seconds:.2f}", "")
    return shown


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", action="append", choices=list(CASES))
    parser.add_argument("--workers", type=int, default=default_workers())
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--inside", choices=list(CASES), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        print(measure(arguments.inside, arguments.workers).model_dump_json())
        return
    cases = arguments.case or list(CASES)
    measurements = tuple(in_a_process(case, arguments.workers) for case in cases)
    Console().print(table(measurements))
    seeds = {"benchmark": SEED}
    write_model(
        arguments.out,
        Benchmark(measurements=measurements, provenance=provenance.collect(seeds)),
    )


if __name__ == "__main__":
    main()
