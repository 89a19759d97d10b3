"""Ensembles that are damaged, cut off, huge, harmful or of the wrong shape: clear errors."""

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_ensembles import SEQUENCE, SYSTEM, beads_topology, chains, write

from cgbench.errors import CgbenchError, IntegrityError, UsageError, ValidationError
from cgbench.evaluate import ensemble_arrays
from cgbench.evaluate.ensemble_files import read_ensemble
from cgbench.evaluate.pdb_models import read_pdb_models

FRAMES = chains(24)


class Bomb:
    """Runs when it is unpickled."""

    ran = False

    def __reduce__(self):
        return (setattr, (Bomb, "ran", True))


@pytest.mark.parametrize("suffix", ["xtc", "dcd", "npz", "npy", "pdb"])
@pytest.mark.parametrize("share", [0.02, 0.4, 0.97])
def test_cut_off_files(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"a.{suffix}"
    if suffix == "npz":
        np.savez(path, coordinates=FRAMES)
    elif suffix == "npy":
        np.save(path, FRAMES)
    else:
        write(path, FRAMES, beads_topology())
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises((IntegrityError, ValidationError)) as raised:
        read_ensemble(path, SYSTEM)
    assert str(path) in raised.value.what


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_changed_byte_of_an_npz_is_an_error_or_nothing(tmp_path_factory, data) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.npz"
    np.savez(path, coordinates=FRAMES, weights=np.ones(24))
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bytes(content))
    try:
        ensemble = read_ensemble(path, SYSTEM)
    except CgbenchError:
        return
    np.testing.assert_array_equal(np.concatenate(ensemble.trajectories), FRAMES)


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    bomb = np.empty(1, dtype=object)
    bomb[0] = Bomb()
    np.save(tmp_path / "a.npy", bomb, allow_pickle=True)
    np.savez(tmp_path / "a.npz", coordinates=bomb)
    np.savez(tmp_path / "b.npz", coordinates=FRAMES, weights=bomb)
    (tmp_path / "c.npz").write_bytes(pickle.dumps(Bomb()))
    for name in ("a.npy", "a.npz", "b.npz", "c.npz"):
        with pytest.raises(IntegrityError):
            read_ensemble(tmp_path / name, SYSTEM)
    assert not Bomb.ran


def test_headers_that_promise_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (10**12, 10, 3)}
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("coordinates.npy", header.getvalue() + b"\0" * 64)
    with pytest.raises(IntegrityError, match="truncated"):
        read_ensemble(path, SYSTEM)
    np.savez(path, coordinates=FRAMES)
    monkeypatch.setattr(ensemble_arrays, "MAX_ARRAY_BYTES", 1000)
    with pytest.raises(IntegrityError, match="unpacks to too much"):
        read_ensemble(path, SYSTEM)


def test_what_packs_too_well_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ensemble_arrays, "_PACKED_BYTES", 1000)
    np.savez_compressed(tmp_path / "a.npz", coordinates=np.zeros((5000, 10, 3), np.float32))
    with pytest.raises(IntegrityError, match="unpacks to too much"):
        read_ensemble(tmp_path / "a.npz", SYSTEM)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "no coordinates"),
        ({"frames": FRAMES}, "no coordinates"),
        ({"coordinates": FRAMES, "trajectories": FRAMES[None]}, "coordinates and trajectories"),
        ({"coordinates": FRAMES[0]}, "wrong shape"),
        ({"coordinates": FRAMES[:0]}, "no structure"),
        ({"coordinates": FRAMES.astype(int)}, "not floating-point"),
        ({"coordinates": FRAMES[:, :, :2]}, "wrong shape"),
        ({"trajectories": FRAMES}, "wrong shape"),
        ({"coordinates": FRAMES, "weights": np.ones(23)}, "not one number for each frame"),
        ({"coordinates": FRAMES, "weights": -np.ones(24)}, "weights cannot be used"),
        ({"coordinates": FRAMES, "weights": np.zeros(24)}, "weights cannot be used"),
        ({"coordinates": FRAMES, "weights": np.full(24, np.nan)}, "weights cannot be used"),
        ({"coordinates": FRAMES, "weights": np.full(24, "a")}, "holds no numbers"),
        ({"coordinates": FRAMES, "trajectory": np.ones(24)}, "trajectory"),
        ({"coordinates": FRAMES, "trajectory": np.ones(23, int)}, "not one number for each"),
        ({"coordinates": FRAMES, "frame_interval_ps": np.ones(2)}, "frame_interval_ps"),
        ({"coordinates": FRAMES, "frame_interval_ps": 0.0}, "frame interval cannot be used"),
        ({"coordinates": FRAMES, "sequence": np.ones(3)}, "sequence"),
        ({"coordinates": FRAMES, "sequence": "AAAA"}, "no chain has the sequence"),
        (
            {"coordinates": FRAMES, "weights": np.ones(24), "frame_interval_ps": 0.1},
            "weighted by their own Markov state model",
        ),
    ],
)
def test_arrays_that_do_not_fit(tmp_path: Path, arrays, message: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValidationError, match=message):
        read_ensemble(tmp_path / "a.npz", SYSTEM)


def test_files_of_one_ensemble_must_agree(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", coordinates=FRAMES, weights=np.ones(24))
    np.savez(tmp_path / "b.npz", coordinates=FRAMES)
    with pytest.raises(ValidationError, match="no weights, which other files have"):
        read_ensemble(tmp_path, SYSTEM)
    np.savez(tmp_path / "a.npz", coordinates=FRAMES, frame_interval_ps=1.0)
    np.savez(tmp_path / "b.npz", coordinates=FRAMES, frame_interval_ps=2.0)
    with pytest.raises(ValidationError, match="different frame intervals"):
        read_ensemble(tmp_path, SYSTEM)


def test_weights_beside(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", FRAMES)
    weights = tmp_path / "w.npy"
    np.save(weights, np.arange(24.0))
    ensemble = read_ensemble(tmp_path, SYSTEM, weights=weights)
    np.testing.assert_array_equal(np.concatenate(ensemble.weights), np.arange(24.0))
    np.save(weights, np.arange(23.0))
    with pytest.raises(ValidationError, match="not one number for each frame"):
        read_ensemble(tmp_path / "a.npy", SYSTEM, weights=weights)
    np.save(weights, np.ones((24, 2)))
    with pytest.raises(ValidationError, match="not a list of weights"):
        read_ensemble(tmp_path / "a.npy", SYSTEM, weights=weights)
    with pytest.raises(UsageError, match="no such file"):
        read_ensemble(tmp_path / "a.npy", SYSTEM, weights=tmp_path / "none.npy")


def pdb(*models: str) -> str:
    return "".join(f"MODEL {n:8d}\n{text}ENDMDL\n" for n, text in enumerate(models, 1)) + "END\n"


def atoms(sequence: str = SEQUENCE, name: str = " CA ") -> str:
    letters = {"Y": "TYR", "D": "ASP", "P": "PRO", "E": "GLU", "T": "THR", "G": "GLY", "W": "TRP"}
    return "".join(
        f"ATOM  {i:5d} {name} {letters[letter]} A{i:4d}    {3.8 * i:8.3f}{0.0:8.3f}{0.0:8.3f}"
        "  1.00  0.00           C\n"
        for i, letter in enumerate(sequence, 1)
    )


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", ValidationError, "no Cα atom"),
        ("<html>not found</html>\n", ValidationError, "no Cα atom"),
        (pdb(atoms(name=" CB ")), ValidationError, "has other atoms"),
        (pdb(atoms(), atoms("YYD")), ValidationError, "has other atoms than the first"),
        (pdb(atoms())[:-20], IntegrityError, "cut off within model 1"),
        (pdb(atoms().replace("  3.800", "  x.800")), IntegrityError, "line 2 cannot be parsed"),
    ],
)
def test_pdb_files(tmp_path: Path, text: str, error: type[CgbenchError], message: str) -> None:
    path = tmp_path / "a.pdb"
    path.write_text(text)
    with pytest.raises(error, match=message):
        read_pdb_models(path)


def test_alternate_locations_and_calcium_are_no_beads(tmp_path: Path) -> None:
    lines = atoms().splitlines(keepends=True)
    doubled = lines[0][:16] + "A" + lines[0][17:] + lines[0][:16] + "B" + lines[0][17:]
    calcium = "HETATM   99 CA    CA A  99       0.000   0.000   0.000  1.00  0.00          CA\n"
    path = tmp_path / "a.pdb"
    path.write_text(pdb(doubled + "".join(lines[1:]) + calcium))
    models = read_pdb_models(path)
    assert models.coordinates.shape == (1, 10, 3)
    assert models.chains[0].sequence == SEQUENCE


def test_a_topology_of_other_atoms(tmp_path: Path) -> None:
    path = write(tmp_path / "a.xtc", FRAMES, beads_topology())
    longer = np.cumsum(np.full((1, 13, 3), 2.2, np.float32), axis=1)
    top = write(tmp_path / "top.pdb", longer, beads_topology(f"GG{SEQUENCE}G"))
    with pytest.raises(ValidationError, match="another number of atoms than its topology"):
        read_ensemble(path, SYSTEM, topology=top)
    with pytest.raises(UsageError, match="no such file"):
        read_ensemble(path, SYSTEM, topology=tmp_path / "none.pdb")
    (tmp_path / "bad.psf").write_text("PSF\n\n  nonsense")
    with pytest.raises(IntegrityError, match="cannot be read as a topology"):
        read_ensemble(path, SYSTEM, topology=tmp_path / "bad.psf")


def test_wrong_endings(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1 2 3")
    with pytest.raises(UsageError, match="no structures"):
        read_ensemble(tmp_path / "a.txt", SYSTEM)
    (tmp_path / "a.xtc").write_bytes(b"PK\x03\x04 not an xtc file at all")
    with pytest.raises(IntegrityError):
        read_ensemble(tmp_path / "a.xtc", SYSTEM)
