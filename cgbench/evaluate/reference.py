"""Reference bundles: what they hold, how they are built, written, read and used."""

from cgbench.evaluate.reference_analysis import ReferenceInput
from cgbench.evaluate.reference_build import build_from_trajectories, build_reference
from cgbench.evaluate.reference_bundle import ReferenceBundle, ReferenceMetadata, frame_weights
from cgbench.evaluate.reference_file import bundle_fingerprint, read_reference, write_reference
from cgbench.evaluate.reference_statistics import choose_start_frames

__all__ = [
    "ReferenceBundle",
    "ReferenceInput",
    "ReferenceMetadata",
    "build_from_trajectories",
    "build_reference",
    "bundle_fingerprint",
    "choose_start_frames",
    "frame_weights",
    "read_reference",
    "write_reference",
]
