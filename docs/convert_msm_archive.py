"""Write the arrays of the published Markov state model archive as plain npz files.

Not a part of cgbench and never run by it: the archive holds pickled objects of HTMD and PyEMMA,
and loading a pickle runs whatever code is in it. Run this where those packages are installed, in an
environment that may be lost, on an archive that you trust:

    python convert_msm_archive.py reference_MSM_analysis/chignolin_model.dat chignolin-msm.npz

Only arrays of numbers are written, and nothing of cgbench is needed:

    projected    (n_frames, n_dimensions) float32, frames of all trajectories one after the other
    lengths      (n_trajectories,) int64, frames of each trajectory
    cluster      (n_frames,) int32, cluster of each frame; -1 where a frame has none
    macrostate   (n_clusters,) int32, macrostate of each cluster; -1 outside the connected set
    stationary   (n_clusters,) float64, stationary probability; 0 outside the connected set
    lag_frames   () int64, lag of the Markov state model in frames
"""

import argparse
import pickle
from pathlib import Path

import numpy as np


def first(owner, *names):
    """Return the first attribute that there is; names differ between versions of the packages."""
    for name in names:
        found = owner
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is not None:
            return found
    raise SystemExit(f"{type(owner).__name__}: none of {', '.join(names)}")


def converted(model):
    """Return the arrays of a model of HTMD."""
    data = first(model, "data")
    projected = [np.asarray(part, dtype=np.float32) for part in first(data, "dat")]
    assigned = [np.asarray(part, dtype=np.int32) for part in first(data, "St", "S")]
    if [len(part) for part in projected] != [len(part) for part in assigned]:
        raise SystemExit("projected data and clusters have different lengths")
    n_clusters = int(first(data, "K"))
    connected = np.asarray(first(model, "msm.active_set"), dtype=np.int64)
    macrostate = np.full(n_clusters, -1, dtype=np.int32)
    macrostate[connected] = np.asarray(first(model, "macro_ofmicro"), dtype=np.int32)
    stationary = np.zeros(n_clusters)
    stationary[connected] = np.asarray(first(model, "msm.stationary_distribution"))
    return {
        "projected": np.concatenate(projected),
        "lengths": np.array([len(part) for part in projected], dtype=np.int64),
        "cluster": np.concatenate(assigned),
        "macrostate": macrostate,
        "stationary": stationary,
        "lag_frames": np.int64(first(model, "lag")),
    }


def main():
    """Convert one file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="a pickled model of the archive, trusted")
    parser.add_argument("out", type=Path, help="the npz file to write")
    asked = parser.parse_args()
    with asked.model.open("rb") as handle:
        model = pickle.load(handle)  # noqa: S301 - the reason for this script, see above
    np.savez_compressed(asked.out, **converted(model))


if __name__ == "__main__":
    main()
