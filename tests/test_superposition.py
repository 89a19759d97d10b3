"""Superposition against peers, hand-made cases and the published start frames."""

from pathlib import Path
from typing import Any

import mdtraj
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from mdtraj.formats import XTCTrajectoryFile
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cgbench import registry
from cgbench.evaluate import geometry
from cgbench.testing.strategies import (
    chains,
    random_chains,
    rotation_from_quaternion,
    rotations,
    translations,
)
from cgbench.units import ANGSTROM_PER_NANOMETRE

Array = NDArray[Any]

#: Least Cα RMSD in Å of the 32 start frames, as the data's README states it.
MINIMUM_START_RMSD = {
    "chignolin": 0.87, "trpcage": 1.18, "bba": 2.34, "villin": 1.21, "wwdomain": 1.73,
    "ntl9": 0.61, "bbl": 3.26, "proteinb": 1.60, "homeodomain": 3.46, "proteing": 0.93,
    "a3d": 2.98, "lambda": 4.84,
}  # fmt: skip
CUBE_CORNERS = np.array(
    [[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)], dtype=np.float64
)


def as_trajectory(coords: Array) -> mdtraj.Trajectory:
    topology = mdtraj.Topology()
    chain = topology.add_chain()
    for _ in range(coords.shape[1]):
        residue = topology.add_residue("ALA", chain)
        topology.add_atom("CA", mdtraj.element.carbon, residue)
    return mdtraj.Trajectory(coords.astype(np.float64) / ANGSTROM_PER_NANOMETRE, topology)


def read_native(path: Path) -> Array:
    lines = [line for line in path.read_text().splitlines() if line.startswith("ATOM")]
    return np.array([[float(line[k : k + 8]) for k in (30, 38, 46)] for line in lines])


def aligned_rmsd(frame: Array, reference: Array) -> float:
    moved, fixed = frame - frame.mean(axis=0), reference - reference.mean(axis=0)
    _, root_sum = Rotation.align_vectors(fixed, moved)
    return float(root_sum) / np.sqrt(len(frame))


@given(chains(max_frames=6, dtype=np.float64), st.integers(0, 2**32 - 1))
def test_rmsd_is_that_of_scipy(coords: Array, seed: int) -> None:
    reference = random_chains(1, coords.shape[1], seed)[0]
    expected = [aligned_rmsd(frame, reference) for frame in coords]
    np.testing.assert_allclose(geometry.rmsd(coords, reference), expected, rtol=1e-8, atol=1e-6)


@given(
    hnp.arrays(np.float64, (5, 3), elements=st.integers(-2, 2).map(float)),
    hnp.arrays(np.float64, (5, 3), elements=st.integers(-2, 2).map(float)),
)
def test_rmsd_of_degenerate_structures_is_that_of_the_singular_values(
    frame: Array, reference: Array
) -> None:
    # Small whole numbers give points that coincide, lie on lines, in planes and on lattices.
    moved, fixed = frame - frame.mean(axis=0), reference - reference.mean(axis=0)
    left, values, right = np.linalg.svd(moved.T @ fixed)
    if np.linalg.det(left @ right) < 0:
        values[2] *= -1
    squares = (moved**2).sum() + (fixed**2).sum() - 2 * values.sum()
    expected = np.sqrt(max(squares, 0.0) / 5)
    np.testing.assert_allclose(geometry.rmsd(frame[None], reference), [expected], atol=1e-6)


def test_rmsd_is_that_of_mdtraj() -> None:
    coords = random_chains(500, 20, seed=5).astype(np.float32)
    trajectory = as_trajectory(coords)
    expected = mdtraj.rmsd(trajectory, trajectory, 3) * ANGSTROM_PER_NANOMETRE
    # The peer works in float32 and is right to about 1e-3 Å near zero.
    np.testing.assert_allclose(geometry.rmsd(coords, coords[3]), expected, atol=5e-3)
    assert geometry.rmsd(coords, coords[3])[3] < 1e-5


@given(chains(dtype=np.float64), rotations(), translations())
def test_rmsd_does_not_see_rigid_motion(coords: Array, rotation: Array, shift: Array) -> None:
    reference = coords[0]
    moved = coords @ rotation.T + shift
    np.testing.assert_allclose(
        geometry.rmsd(moved, reference), geometry.rmsd(coords, reference), atol=2e-5
    )
    assert geometry.rmsd(moved[:1], reference)[0] < 2e-5


@given(chains(min_beads=6, max_frames=1, dtype=np.float64))
def test_rmsd_sees_a_mirror_image(coords: Array) -> None:
    mirrored = coords * np.array([1.0, 1.0, -1.0])
    expected = aligned_rmsd(mirrored[0], coords[0])
    found = geometry.rmsd(mirrored, coords[0])[0]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    # Random chains are never flat, so their mirror image is another shape.
    assert found > 0.05


@pytest.mark.filterwarnings("ignore:Optimal rotation is not uniquely")
def test_rmsd_by_hand() -> None:
    square = np.array([[1.0, 0, 0], [0, 1.0, 0], [-1.0, 0, 0], [0, -1.0, 0]])
    # All eigenvalues of the mirror image's matrix but one coincide.
    np.testing.assert_allclose(
        geometry.rmsd(-CUBE_CORNERS[None], CUBE_CORNERS),
        [aligned_rmsd(-CUBE_CORNERS, CUBE_CORNERS)],
    )
    np.testing.assert_allclose(geometry.rmsd(2.0 * square[None], square), [1.0])
    line = np.zeros((6, 3))
    line[:, 0] = 3.8 * np.arange(6)
    np.testing.assert_allclose(geometry.rmsd(line[None, :, [1, 2, 0]], line), [0.0], atol=1e-6)
    stretched = line * 1.5
    expected = np.sqrt(np.mean((1.9 * (np.arange(6) - 2.5)) ** 2))
    np.testing.assert_allclose(geometry.rmsd(stretched[None], line), [expected])
    point = np.full((1, 6, 3), 7.0)
    np.testing.assert_allclose(
        geometry.rmsd(point, line), [np.sqrt(np.mean((3.8 * (np.arange(6) - 2.5)) ** 2))]
    )
    np.testing.assert_allclose(geometry.rmsd(point, point[0]), [0.0], atol=1e-6)


@pytest.mark.parametrize("width", [10.0**-k for k in range(9)])
def test_rmsd_of_nearly_straight_chains_is_exact(width: float) -> None:
    generator = np.random.default_rng(11)
    chain = generator.normal(size=(50, 12, 3)) * width
    chain[:, :, 0] += 3.8 * np.arange(12)
    rotation = rotation_from_quaternion(generator.normal(size=4))
    for frame in chain:
        assert geometry.rmsd(frame[None] @ rotation.T, frame)[0] < 3e-6


@given(chains(dtype=np.float64), st.integers(0, 2**32 - 1))
def test_superposed_frames_have_the_rmsd(coords: Array, seed: int) -> None:
    reference = random_chains(1, coords.shape[1], seed)[0]
    moved = geometry.superpose(coords, reference)
    deviation = np.sqrt(np.mean(np.sum((moved - reference) ** 2, axis=-1), axis=-1))
    np.testing.assert_allclose(deviation, geometry.rmsd(coords, reference), atol=1e-6)
    np.testing.assert_allclose(
        geometry.pair_distances(moved), geometry.pair_distances(coords), atol=1e-4
    )
    np.testing.assert_allclose(
        np.sin(geometry.dihedrals(moved)), np.sin(geometry.dihedrals(coords)), atol=1e-6
    )


@pytest.mark.data
@pytest.mark.parametrize("key", MINIMUM_START_RMSD)
def test_start_frames_are_as_close_to_the_native_as_published(
    key: str, published_dir: Path
) -> None:
    system = registry.system(key)
    name = f"{system.published_key}_kcenters_32clusters_coords.xtc"
    with XTCTrajectoryFile(str(published_dir / "starting_frames" / name)) as handle:
        frames = handle.read()[0] * ANGSTROM_PER_NANOMETRE
    native = read_native(
        published_dir / "native" / f"{system.published_key}_{system.native.pdb_id}_ca.pdb"
    )
    assert frames.shape == (32, system.n_beads, 3)
    closest = geometry.rmsd(frames, native).min()
    assert closest == pytest.approx(MINIMUM_START_RMSD[key], abs=0.01)
    assert system.minimum_start_rmsd == MINIMUM_START_RMSD[key]
    assert not geometry.bad_frames(frames).any()


def test_layouts_and_types_do_not_matter() -> None:
    coords = random_chains(200, 13, seed=4)
    reference = coords[0]
    expected = geometry.rmsd(coords, reference)
    single = coords.astype(np.float32)
    np.testing.assert_allclose(geometry.rmsd(single, reference), expected, atol=2e-6)
    np.testing.assert_array_equal(
        geometry.rmsd(np.asfortranarray(single), reference), geometry.rmsd(single, reference)
    )
    np.testing.assert_array_equal(
        geometry.rmsd(single[::3], reference), geometry.rmsd(single, reference)[::3]
    )
    single.setflags(write=False)
    whole = geometry.rmsd(np.round(coords * 100).astype(np.int32), 100 * reference) / 100
    np.testing.assert_allclose(whole, expected, atol=0.02)
    assert geometry.rmsd(single, reference)[0] < 1e-6


def test_a_frame_does_not_depend_on_its_neighbours() -> None:
    # Frames go through in blocks; degenerate ones among them take another way.
    coords = random_chains(150, 9, seed=6)
    reference = coords[3].copy()
    coords[40] = reference * [1.0, 1.0, -1.0]
    coords[41] = 0.0
    coords[42] = np.outer(np.arange(9.0), [3.8, 0.0, 0.0])
    coords[43, 2, 1] = np.inf
    together = geometry.rmsd(coords, reference)
    alone = [geometry.rmsd(frame[None], reference)[0] for frame in coords]
    np.testing.assert_array_equal(together, alone)
    assert np.isnan(together[43])
    assert np.isnan(together).sum() == 1
