"""Scores made-up projections with the BioEmu benchmark's own code.

Runs in the environment of requirements.txt and writes tests/golden/bioemu.json, where the tests of
cgbench read what the benchmark found. ::

    python benchmarks/peers/bioemu/scores.py

The benchmark draws its points and their noise at random, so that each case is scored with several
seeds; the mean and the standard deviation of the seeds are kept.
"""

import importlib.metadata
import json
import platform
import sys
from pathlib import Path

import numpy as np
import scipy
from bioemu_benchmarks.eval.folding_free_energies.free_energies import K_BOLTZMANN
from bioemu_benchmarks.eval.md_emulation.state_metric import (
    DistributionMetrics2D,
    DistributionMetricSettings,
)
from projections import cases

GOLDEN = Path(__file__).resolve().parents[3] / "tests" / "golden" / "bioemu.json"
TEMPERATURE = 350.0
SEEDS = range(8)


def scored(model: np.ndarray, reference: np.ndarray) -> dict[str, object]:
    """Free-energy error, coverage and grid of one case, over the seeds."""
    found, edges = [], []
    for seed in SEEDS:
        metric = DistributionMetrics2D(reference, temperature_K=TEMPERATURE, random_seed=seed)
        with np.errstate(invalid="ignore", divide="ignore"):
            try:
                error, _, coverage = metric.score_nonzero(model)
            except ValueError:
                # Without a cell in common there is nothing to take the least of.
                error, coverage = None, 0.0
        found.append((error, coverage))
        edges.append([[axis[0], axis[-1]] for axis in (metric.edges_x, metric.edges_y)])
    errors = [error for error, _ in found if error is not None]
    coverages = [coverage for _, coverage in found]
    return {
        "mae": float(np.mean(errors)) if errors else None,
        "mae_std": float(np.std(errors)) if errors else None,
        "coverage": float(np.mean(coverages)),
        "coverage_std": float(np.std(coverages)),
        "edges": np.mean(edges, axis=0).tolist(),
        "edges_std": np.std(edges, axis=0).tolist(),
        "first_points": [side[:3].tolist() for side in (model, reference)],
    }


def main() -> None:
    """Score all cases and write the result."""
    defaults = DistributionMetricSettings()
    golden = {
        "software": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "bioemu-benchmarks": importlib.metadata.version("bioemu-benchmarks"),
        },
        "settings": {
            "temperature": TEMPERATURE,
            "boltzmann": K_BOLTZMANN,
            "points": defaults.n_resample,
            "noise": defaults.sigma_resample,
            "bins": defaults.num_bins,
            "cutoff": defaults.energy_cutoff,
            "padding": defaults.padding,
            "seeds": len(SEEDS),
        },
        "cases": {name: scored(*sides) for name, sides in cases().items()},
    }
    GOLDEN.write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"wrote {GOLDEN}\n")


if __name__ == "__main__":
    main()
