"""The settings that a reference bundle is built with, as one fingerprint."""

import hashlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cgbench import config, registry
from cgbench.evaluate.reference_analysis import AnalysedSystem
from cgbench.evaluate.reference_file import VERSION

#: Constants that a bundle depends on.
_CONSTANTS: Final = (
    "fes_grid_size",
    "fes_grid_margin",
    "fes_smoothing",
    "fes_cutoff",
    "fes_clip",
    "marginal_bins",
    "q_bins",
    "dihedral_bins",
    "bond_maximum",
    "contact_beta",
    "contact_lambda",
    "contact_cutoff",
    "contact_separation",
    "unfolded_q",
    "folded_q",
    "folded_rmsd_minimum",
    "folded_rmsd_percentile",
    "outside_percentile",
    "handedness_percentile",
    "n_start_frames",
    "subset_frames",
    "minimum_events",
    "confidence_level",
    "unreliable_disconnected_fraction",
    "unreliable_population_error",
)


def settings_fingerprint(
    system: AnalysedSystem,
    store_fingerprint: str,
    native: NDArray[np.float32],
    frame_interval: float,
    seed: int | None = None,
    n_resamples: int | None = None,
) -> str:
    """Return the hash over all that a bundle is made from: data, settings and constants.

    Two builds of one fingerprint give the same bundle on one machine, so that the second can be
    left out.

    Args:
        system: The protein, whose analysis settings count.
        store_fingerprint: The data.
        native: (n_beads, 3) float32 native conformer.
        frame_interval: Time between frames in ps.
        seed: Seed; by default the registry's.
        n_resamples: Number of resamples; by default the registry's.
    """
    constants = registry.constants()
    little = np.ascontiguousarray(native, dtype="<f4")
    return config.fingerprint(
        {
            "bundle": VERSION,
            "system": system.key,
            "sequence": system.sequence,
            "temperature": system.temperature,
            "analysis": system.analysis.model_dump(mode="json"),
            "store": store_fingerprint,
            "native": hashlib.sha256(little.tobytes()).hexdigest(),
            "frame_interval": frame_interval,
            "seed": system.analysis.seed if seed is None else seed,
            "n_resamples": constants.n_resamples if n_resamples is None else n_resamples,
            "constants": {name: getattr(constants, name) for name in _CONSTANTS},
        }
    )
