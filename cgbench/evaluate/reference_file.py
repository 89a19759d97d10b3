"""Reference bundles on disk: a small zarr group whose content is hashed as a whole."""

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

from cgbench import config
from cgbench.errors import CgbenchError, IntegrityError, UsageError
from cgbench.evaluate.observables import Observables
from cgbench.evaluate.reference_bundle import ReferenceBundle, ReferenceMetadata
from cgbench.evaluate.tica import TicaModel
from cgbench.provenance import collect
from cgbench.store.untrusted import check_packed_chunks

FORMAT: Final = "cgbench-reference"
VERSION: Final = "v2"

#: Name and type on disk of every array that has a fixed name; ``edges/…`` and ``histograms/…``
#: are float64 beside them.
_TYPES: Final[dict[str, str]] = {
    "native": "float32",
    "tica_mean": "float64",
    "tica_components": "float64",
    "tica_eigenvalues": "float64",
    "centres": "float64",
    "macrostate": "int64",
    "folded_microstate": "bool",
    "stationary": "float64",
    "native_tics": "float32",
    "native_dihedrals": "float32",
    "tic_mean": "float64",
    "tic_sigma": "float64",
    "fes_edges": "float64",
    "fes_probability": "float64",
    "fes": "float64",
    "start_coordinates": "float32",
    "start_frames": "int64",
    "frames/trajectory": "int32",
    "frames/microstate": "int32",
    "frames/tics": "float32",
    "frames/rg": "float32",
    "frames/end_to_end": "float32",
    "frames/q": "float32",
    "frames/rmsd": "float32",
    "frames/handedness": "float32",
    "frames/centre_distance": "float32",
    "frames/alive": "bool",
    "subset_coordinates": "float32",
    "subset_frames": "int64",
    "macrostate_structures": "float32",
}
_GROUPS: Final = ("edges", "histograms")
#: Frames in a chunk of a per-frame array: few files, and bounded memory while reading.
_CHUNK_FRAMES: Final = 262_144


def _arrays(bundle: ReferenceBundle) -> dict[str, NDArray[Any]]:
    frames = bundle.observables
    return {
        "native": bundle.native,
        "tica_mean": bundle.tica.mean,
        "tica_components": bundle.tica.components,
        "tica_eigenvalues": bundle.tica.eigenvalues,
        "centres": bundle.centres,
        "macrostate": bundle.macrostate,
        "folded_microstate": bundle.folded_microstate,
        "stationary": bundle.stationary,
        "native_tics": bundle.native_tics,
        "native_dihedrals": bundle.native_dihedrals,
        "tic_mean": bundle.tic_mean,
        "tic_sigma": bundle.tic_sigma,
        "fes_edges": bundle.fes_edges,
        "fes_probability": bundle.fes_probability,
        "fes": bundle.fes,
        "start_coordinates": bundle.start_coordinates,
        "start_frames": bundle.start_frames,
        "frames/trajectory": frames.trajectory,
        "frames/microstate": frames.microstate,
        "frames/tics": frames.tics,
        "frames/rg": frames.rg,
        "frames/end_to_end": frames.end_to_end,
        "frames/q": frames.q,
        "frames/rmsd": frames.rmsd,
        "frames/handedness": frames.handedness,
        "frames/centre_distance": frames.centre_distance,
        "frames/alive": frames.alive,
        "subset_coordinates": bundle.subset_coordinates,
        "subset_frames": bundle.subset_frames,
        "macrostate_structures": bundle.macrostate_structures,
        **{f"edges/{name}": values for name, values in bundle.edges.items()},
        **{f"histograms/{name}": values for name, values in bundle.histograms.items()},
    }


def _content_fingerprint(metadata: ReferenceMetadata, arrays: dict[str, NDArray[Any]]) -> str:
    described = {}
    for name, values in arrays.items():
        little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
        described[name] = {
            "dtype": str(values.dtype.name),
            "shape": list(values.shape),
            "sha256": hashlib.sha256(little.tobytes()).hexdigest(),
        }
    return config.fingerprint({"metadata": metadata.model_dump(mode="json"), "arrays": described})


def bundle_fingerprint(bundle: ReferenceBundle) -> str:
    """Return the hash over a bundle's metadata and arrays, whatever their order.

    It is the same for every build on one machine. On another processor or with other numerical
    libraries the last digits of the projection can differ, and with them the fingerprint.
    """
    return _content_fingerprint(bundle.metadata, _arrays(bundle))


def write_reference(
    path: Path, bundle: ReferenceBundle, build: Mapping[str, Any] | None = None
) -> None:
    """Write a bundle; an existing one is replaced only once the new one is complete.

    Args:
        path: The folder, ``references/v2/<system>.zarr``.
        bundle: What to write.
        build: How it was built (seconds of each stage, workers), told beside the provenance.

    Raises:
        UsageError: The path exists and is no reference bundle.
    """
    if path.exists() and not _is_reference(path):
        raise UsageError(f"{path}: exists and is not a reference bundle", fix="choose another path")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        fresh = Path(folder) / "fresh"
        group = zarr.open_group(fresh, mode="w")
        group.attrs.update(
            {
                "format": FORMAT,
                "version": VERSION,
                "fingerprint": bundle.fingerprint,
                "metadata": bundle.metadata.model_dump(mode="json"),
                # Where and when it was built is told, but is no part of the content.
                "provenance": collect({"reference": bundle.metadata.seed}).model_dump(mode="json"),
                "build": dict(build or {}),
            }
        )
        for name, values in _arrays(bundle).items():
            rows = min(len(values), _CHUNK_FRAMES)
            array = group.create_array(
                name,
                shape=values.shape,
                dtype=values.dtype,
                chunks=(max(rows, 1), *values.shape[1:]),
                compressors=[BloscCodec(cname="zstd", clevel=9, shuffle="bitshuffle")],
            )
            array[...] = values
        # Reading back verifies the content before anything that exists is touched.
        read_reference(fresh)
        if path.exists():
            path.rename(Path(folder) / "replaced")
        fresh.rename(path)


def _is_reference(path: Path) -> bool:
    try:
        return zarr.open_group(path, mode="r").attrs.get("format") == FORMAT
    except (OSError, ValueError, KeyError):
        return False


def read_reference(path: Path) -> ReferenceBundle:
    """Read a bundle and verify that its content is what its fingerprint says.

    Raises:
        UsageError: The path does not exist.
        IntegrityError: It is no reference bundle, of another version, incomplete or damaged.
    """
    if not path.exists():
        raise UsageError(
            f"{path}: no such reference bundle", fix="cgbench reference build SYSTEM makes one"
        )
    try:
        group = zarr.open_group(path, mode="r")
        attributes = dict(group.attrs)
        found = (attributes.get("format"), attributes.get("version"))
        if found != (FORMAT, VERSION):
            raise IntegrityError(
                f"{path}: not a reference bundle that can be read",
                expected=f"{FORMAT} {VERSION}",
                found=" ".join(str(item) for item in found),
                fix="cgbench reference build SYSTEM makes a bundle of this version",
            )
        metadata = config.validate(ReferenceMetadata, attributes.get("metadata"), path)
        for name in _names(group):
            check_packed_chunks(path / name)
        arrays = {name: _read_array(group, name) for name in _names(group)}
    except IntegrityError:
        raise
    except CgbenchError as error:
        raise _damaged(path, error.found) from error
    # Damaged bytes surface as whatever the decoder stumbles over first.
    except Exception as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from error
    expected = attributes.get("fingerprint")
    actual = _content_fingerprint(metadata, arrays)
    if actual != expected:
        raise IntegrityError(
            f"{path}: the content is not what the fingerprint says",
            expected=expected,
            found=actual,
            fix="build or download the reference bundle again",
        )
    return _bundle(metadata, actual, arrays)


def _damaged(path: Path, found: object) -> IntegrityError:
    return IntegrityError(
        f"{path}: the reference bundle is damaged or incomplete",
        found=found,
        fix="build or download the reference bundle again",
    )


def _names(group: zarr.Group) -> list[str]:
    return [
        *_TYPES,
        *(f"{part}/{name}" for part in _GROUPS for name in sorted(_member(group, part))),
    ]


def _member(group: zarr.Group, name: str) -> list[str]:
    member = group[name]
    return list(member.array_keys()) if isinstance(member, zarr.Group) else []


def _read_array(group: zarr.Group, name: str) -> NDArray[Any]:
    array = group[name]
    expected = _TYPES.get(name, "float64")
    if not isinstance(array, zarr.Array) or str(array.dtype) != expected:
        raise IntegrityError(f"{group.store_path}: {name} is not an array of {expected}")
    return np.ascontiguousarray(array[...])


def _bundle(
    metadata: ReferenceMetadata, fingerprint: str, arrays: dict[str, NDArray[Any]]
) -> ReferenceBundle:
    frames = {
        name.removeprefix("frames/"): values
        for name, values in arrays.items()
        if name.startswith("frames/")
    }
    groups = {
        part: {
            name.removeprefix(f"{part}/"): values
            for name, values in arrays.items()
            if name.startswith(f"{part}/")
        }
        for part in _GROUPS
    }
    return ReferenceBundle(
        metadata=metadata,
        fingerprint=fingerprint,
        native=arrays["native"],
        tica=TicaModel(
            lag_frames=metadata.tica_lag_frames,
            mean=arrays["tica_mean"],
            components=arrays["tica_components"],
            eigenvalues=arrays["tica_eigenvalues"],
            rank=metadata.tica_rank,
            n_pairs=metadata.tica_pairs,
        ),
        centres=arrays["centres"],
        macrostate=arrays["macrostate"],
        folded_microstate=arrays["folded_microstate"],
        stationary=arrays["stationary"],
        native_tics=arrays["native_tics"],
        native_dihedrals=arrays["native_dihedrals"],
        tic_mean=arrays["tic_mean"],
        tic_sigma=arrays["tic_sigma"],
        fes_edges=arrays["fes_edges"],
        fes_probability=arrays["fes_probability"],
        fes=arrays["fes"],
        edges=groups["edges"],
        histograms=groups["histograms"],
        start_coordinates=arrays["start_coordinates"],
        start_frames=arrays["start_frames"],
        observables=Observables(
            trajectory=frames["trajectory"],
            microstate=frames["microstate"],
            tics=frames["tics"],
            rg=frames["rg"],
            end_to_end=frames["end_to_end"],
            q=frames["q"],
            rmsd=frames["rmsd"],
            handedness=frames["handedness"],
            centre_distance=frames["centre_distance"],
            alive=frames["alive"],
            n_trajectories=metadata.n_trajectories,
        ),
        subset_coordinates=arrays["subset_coordinates"],
        subset_frames=arrays["subset_frames"],
        macrostate_structures=arrays["macrostate_structures"],
    )
