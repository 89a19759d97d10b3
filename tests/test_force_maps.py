"""Force maps: groups, the three maps, statistics, files and the report."""

import json
import zipfile
from pathlib import Path

import mdtraj
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cgbench.errors import CgbenchError, IntegrityError, UsageError, ValidationError
from cgbench.force_maps import (
    FitRecord,
    ForceMap,
    ForceStatistics,
    bead_atoms,
    constraint_groups,
    fit_optimal,
    groups_from_constraints,
    hydrogens_map,
    map_report,
    read_force_map,
    slice_map,
    write_force_map,
)

#: Two beads, each with a hydrogen, and one heavy atom with a hydrogen between them.
SITES = np.array([0, 4])
GROUPS = np.array([0, 0, 1, 1, 2, 2])


def random_forces(seed: int, n_frames: int = 40, n_atoms: int = 6) -> NDArray[np.float32]:
    forces = np.random.default_rng(seed).normal(size=(n_frames, n_atoms, 3)) * 20
    return forces.astype(np.float32)


def statistics(n: int = 3) -> ForceStatistics:
    total = ForceStatistics.from_forces(random_forces(0), 0)
    for number in range(1, n):
        total += ForceStatistics.from_forces(random_forces(number), number)
    return total


def chain(residues: list[tuple[str, list[tuple[str, str, str | None]]]]) -> mdtraj.Topology:
    """A topology from residues of (name, element, atom of the residue it is bonded to)."""
    topology = mdtraj.Topology()
    first = topology.add_chain()
    for name, atoms in residues:
        residue = topology.add_residue(name, first)
        made = {}
        for atom, element, partner in atoms:
            made[atom] = topology.add_atom(
                atom, mdtraj.element.Element.getBySymbol(element), residue
            )
            if partner is not None:
                topology.add_bond(made[partner], made[atom])
    return topology


ALANINE = ("ALA", [("N", "N", None), ("CA", "C", "N"), ("HA", "H", "CA"), ("C", "C", "CA")])


class TestGroups:
    def test_joined_also_indirectly(self) -> None:
        groups = groups_from_constraints(6, [(4, 1), (1, 5), (2, 3)])
        assert groups.tolist() == [0, 1, 2, 2, 1, 1]

    def test_without_constraints_every_atom_is_its_own(self) -> None:
        assert groups_from_constraints(4, []).tolist() == [0, 1, 2, 3]

    @given(
        n=st.integers(1, 12),
        pairs=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=15),
    )
    def test_groups_are_what_walking_along_constraints_reaches(
        self, n: int, pairs: list[tuple[int, int]]
    ) -> None:
        inside = [(a, b) for a, b in pairs if a < n and b < n]
        groups = groups_from_constraints(n, inside)
        reached = np.eye(n, dtype=bool)
        for _ in range(n):
            for a, b in inside:
                reached[a] |= reached[b]
                reached[b] |= reached[a]
        np.testing.assert_array_equal(groups[:, None] == groups, reached)

    def test_a_pair_of_no_atom(self) -> None:
        with pytest.raises(ValidationError, match="does not exist"):
            groups_from_constraints(3, [(0, 3)])

    def test_topology_by_rule(self) -> None:
        topology = chain([ALANINE, ALANINE])
        assert constraint_groups(topology).tolist() == [0, 1, 1, 2, 3, 4, 4, 5]
        assert constraint_groups(topology, "none").tolist() == list(range(8))
        assert bead_atoms(topology).tolist() == [1, 5]

    def test_openmm_system_tells_its_own(self) -> None:
        openmm = pytest.importorskip("openmm")
        system = openmm.System()
        for _ in range(4):
            system.addParticle(12.0)
        system.addConstraint(3, 1, 0.1)
        assert constraint_groups(system).tolist() == [0, 1, 2, 1]

    def test_a_calcium_ion_is_no_bead(self) -> None:
        topology = chain([ALANINE, ("CA", [("CA", "Ca", None)])])
        assert bead_atoms(topology).tolist() == [1]

    def test_errors(self) -> None:
        loose = chain([("LIG", [("C1", "C", None), ("H1", "H", None)])])
        with pytest.raises(ValidationError, match="without a bond"):
            constraint_groups(loose)
        with pytest.raises(ValidationError, match="no atom CA"):
            bead_atoms(loose)
        with pytest.raises(UsageError, match="no rule"):
            constraint_groups(loose, "all-bonds")  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="str"):
            constraint_groups("topology.pdb")


class TestMaps:
    def test_slice_takes_and_hydrogens_sums(self) -> None:
        forces = random_forces(1)
        np.testing.assert_array_equal(slice_map(SITES, GROUPS).apply(forces), forces[:, SITES])
        summed = np.stack([forces[:, 0] + forces[:, 1], forces[:, 4] + forces[:, 5]], axis=1)
        np.testing.assert_allclose(hydrogens_map(SITES, GROUPS).apply(forces), summed, rtol=1e-6)

    def test_consistency_is_derived(self) -> None:
        assert not slice_map(SITES, GROUPS).consistent
        assert slice_map(SITES, GROUPS).consistency == "no"
        assert slice_map(SITES, np.arange(6)).consistent
        assert hydrogens_map(SITES, GROUPS).consistent
        assert hydrogens_map(SITES, GROUPS).consistency == "yes"
        assert fit_optimal(statistics(), SITES, GROUPS).consistent

    @given(seed=st.integers(0, 1000), n_frames=st.integers(0, 30))
    def test_apply_is_the_plain_sum(self, seed: int, n_frames: int) -> None:
        generator = np.random.default_rng(seed)
        weights = generator.normal(size=(2, 6))
        weights[:, SITES] = np.eye(2)
        weights[:, 2] = 0.0
        forces = random_forces(seed, n_frames)
        expected = np.einsum("bi,fix->fbx", weights, forces.astype(np.float64))
        mapped = ForceMap("any", weights, SITES, GROUPS).apply(forces)
        assert mapped.dtype == np.float32
        np.testing.assert_allclose(mapped, expected, rtol=1e-6, atol=1e-5)

    def test_blocks_do_not_change_the_result(self, monkeypatch: pytest.MonkeyPatch) -> None:
        forces = random_forces(2, 50)
        whole = hydrogens_map(SITES, GROUPS).apply(forces)
        monkeypatch.setattr("cgbench.force_maps.maps._BLOCK_NUMBERS", 3 * 6 * 7)
        np.testing.assert_array_equal(hydrogens_map(SITES, GROUPS).apply(forces), whole)

    def test_atoms_without_weight_are_not_looked_at(self) -> None:
        forces = random_forces(3)
        forces[:, 2] = np.nan
        assert np.isfinite(hydrogens_map(SITES, GROUPS).apply(forces)).all()

    def test_the_callers_arrays_stay_theirs(self) -> None:
        weights = np.zeros((2, 6))
        weights[:, SITES] = np.eye(2)
        force_map = ForceMap("any", weights, SITES, GROUPS)
        weights[0, 2] = 5.0
        assert force_map.weights[0, 2] == 0.0
        with pytest.raises(ValueError, match="read-only"):
            force_map.weights[0, 2] = 1.0

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"weights": np.zeros((2, 5))}, "wrong shape of the weights"),
            ({"weights": np.full((2, 6), np.nan)}, "not finite"),
            ({"weights": np.ones((2, 6))}, "no map of forces on these beads"),
            ({"weights": np.zeros((2, 6))}, "no map of forces on these beads"),
            ({"sites": np.array([0, 6])}, "does not exist"),
            ({"sites": np.array([0, 1])}, "joined by constraints"),
            ({"sites": np.array([0, 0])}, "joined by constraints"),
            ({"sites": np.array([[0, 4]])}, "wrong shape of beads"),
            ({"groups": np.array([], dtype=int)}, "wrong shape of beads"),
        ],
    )
    def test_what_is_no_map(self, change: dict[str, NDArray[np.float64]], message: str) -> None:
        good = slice_map(SITES, GROUPS)
        fields = {"weights": good.weights, "sites": SITES, "groups": GROUPS, **change}
        with pytest.raises(ValidationError, match=message):
            ForceMap("any", fields["weights"], fields["sites"], fields["groups"])

    def test_forces_of_other_atoms(self) -> None:
        with pytest.raises(ValidationError, match="wrong shape of the forces"):
            slice_map(SITES, GROUPS).apply(np.zeros((4, 5, 3)))


class TestStatistics:
    def test_chunks_in_any_order_sum_up(self) -> None:
        forces = random_forces(0, 60)
        whole = ForceStatistics.from_forces(forces, 7)
        other = ForceStatistics.from_forces(random_forces(1), 3)
        parts = [ForceStatistics.from_forces(forces[a : a + 20], 7) for a in (40, 0, 20)]
        total = parts[0] + other + parts[1] + parts[2]
        assert total.trajectories.tolist() == [3, 7]
        assert total.n_frames.tolist() == [40, 60]
        np.testing.assert_allclose(total.select([7]).gram, whole.gram, rtol=1e-12)
        at_once = ForceStatistics.merge([other, *parts])
        np.testing.assert_array_equal(at_once.trajectories, total.trajectories)
        np.testing.assert_allclose(at_once.gram, total.gram, rtol=1e-12)

    def test_gram_is_the_sum_of_products(self) -> None:
        forces = random_forces(0).astype(np.float64)
        expected = np.einsum("fix,fjx->ij", forces, forces)
        found = ForceStatistics.from_forces(forces, 0).total()
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-9)

    def test_blocks_do_not_change_the_result(self, monkeypatch: pytest.MonkeyPatch) -> None:
        forces = random_forces(2, 50)
        whole = ForceStatistics.from_forces(forces, 0).gram
        monkeypatch.setattr("cgbench.force_maps.statistics._BLOCK_NUMBERS", 3 * 6 * 7)
        np.testing.assert_allclose(ForceStatistics.from_forces(forces, 0).gram, whole, rtol=1e-12)

    def test_mean_square_is_that_of_the_mapped_forces(self) -> None:
        force_map = fit_optimal(statistics(2), SITES, GROUPS)
        mapped = force_map.apply(random_forces(2)).astype(np.float64)
        expected = (mapped**2).mean(axis=(0, 2))
        found = statistics(3).select([2]).mean_square(force_map)
        np.testing.assert_allclose(found, expected, rtol=1e-6)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_a_force_that_is_not_finite(self, value: float) -> None:
        forces = random_forces(0)
        forces[17, 3, 1] = value
        with pytest.raises(ValidationError, match="frame 17"):
            ForceStatistics.from_forces(forces, 4)

    def test_errors(self) -> None:
        total = statistics(3)
        for chosen in ([], [0, 5], [1, 1]):
            with pytest.raises(UsageError, match="cannot select"):
                total.select(chosen)
        with pytest.raises(ValidationError, match="different atoms"):
            total + ForceStatistics.from_forces(np.ones((2, 5, 3)), 0)
        with pytest.raises(UsageError, match="nothing to merge"):
            ForceStatistics.merge([])
        with pytest.raises(ValidationError, match="wrong shape"):
            ForceStatistics.from_forces(np.ones((0, 5, 3)), 0)
        with pytest.raises(ValidationError, match="ascending"):
            ForceStatistics(np.array([1, 1]), np.array([1, 1]), np.zeros((2, 3, 3)))
        with pytest.raises(ValidationError, match="shapes"):
            ForceStatistics(np.array([1]), np.array([1, 1]), np.zeros((1, 3, 3)))
        with pytest.raises(ValidationError, match="not finite"):
            ForceStatistics(np.array([1]), np.array([1]), np.full((1, 3, 3), np.nan))
        with pytest.raises(ValidationError, match="other atoms"):
            total.mean_square(slice_map(np.array([0]), np.arange(3)))


class TestFiles:
    @pytest.fixture
    def written(self, tmp_path: Path) -> Path:
        path = tmp_path / "optimal.npz"
        write_force_map(path, fit_optimal(statistics(), SITES, GROUPS))
        return path

    def test_round_trip(self, written: Path) -> None:
        expected = fit_optimal(statistics(), SITES, GROUPS)
        found = read_force_map(written)
        np.testing.assert_array_equal(found.weights, expected.weights)
        np.testing.assert_array_equal(found.groups, expected.groups)
        assert (found.name, found.fit) == (expected.name, expected.fit)
        assert isinstance(found.fit, FitRecord)
        assert found.fit.trajectories == (0, 1, 2)

    def test_a_map_that_is_not_fitted(self, tmp_path: Path) -> None:
        write_force_map(tmp_path / "slice.npz", slice_map(SITES, GROUPS))
        assert read_force_map(tmp_path / "slice.npz").fit is None

    @pytest.mark.parametrize("where", [0, 40, -30])
    def test_a_flipped_byte(self, written: Path, where: int) -> None:
        data = bytearray(written.read_bytes())
        data[where] ^= 1
        written.write_bytes(data)
        with pytest.raises(IntegrityError, match="describes"):
            read_force_map(written)

    def replace(self, path: Path, data: bytes) -> None:
        """Put other bytes in place, with the hash that belongs to them."""
        import hashlib

        path.write_bytes(data)
        record = json.loads(path.with_suffix(".json").read_text())
        record["arrays_sha256"] = hashlib.sha256(data).hexdigest()
        path.with_suffix(".json").write_text(json.dumps(record))

    def test_an_object_is_never_loaded(self, written: Path, tmp_path: Path) -> None:
        good = read_force_map(written)
        evil = tmp_path / "evil.npz"
        weights = np.array([[object()]], dtype=object)
        np.savez(evil, weights=weights, sites=good.sites, groups=good.groups, allow_pickle=True)
        with zipfile.ZipFile(evil) as archive:
            names = [name for name in archive.namelist() if "pickle" not in name]
            members = {name: archive.read(name) for name in names}
        with zipfile.ZipFile(evil, "w") as archive:
            for name, data in members.items():
                archive.writestr(name, data)
        self.replace(written, evil.read_bytes())
        with pytest.raises(IntegrityError, match="damaged or unsafe"):
            read_force_map(written)

    @pytest.mark.parametrize("data", [b"", b"PK\x03\x04 nonsense", b"\x93NUMPY" + bytes(200)])
    def test_no_archive(self, written: Path, data: bytes) -> None:
        self.replace(written, data)
        with pytest.raises(IntegrityError):
            read_force_map(written)

    def test_other_arrays(self, written: Path, tmp_path: Path) -> None:
        good = read_force_map(written)
        other = tmp_path / "other.npz"
        np.savez(other, weights=good.weights, sites=good.sites)
        self.replace(written, other.read_bytes())
        with pytest.raises(IntegrityError, match="not the arrays that are expected"):
            read_force_map(written)
        np.savez(other, weights=good.weights.astype("f4"), sites=good.sites, groups=good.groups)
        self.replace(written, other.read_bytes())
        with pytest.raises(IntegrityError, match="another type"):
            read_force_map(written)
        np.savez(other, weights=good.weights[:1], sites=good.sites[:1], groups=good.groups)
        self.replace(written, other.read_bytes())
        with pytest.raises(CgbenchError, match=r"as described|no map of forces"):
            read_force_map(written)

    def test_consistency_cannot_be_claimed(self, tmp_path: Path) -> None:
        path = tmp_path / "slice.npz"
        write_force_map(path, slice_map(SITES, GROUPS))
        record = json.loads(path.with_suffix(".json").read_text())
        path.with_suffix(".json").write_text(json.dumps({**record, "consistent": True}))
        with pytest.raises(IntegrityError, match="as described"):
            read_force_map(path)

    def test_missing_and_misnamed(self, written: Path, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="ending in"):
            write_force_map(tmp_path / "map.npy", slice_map(SITES, GROUPS))
        with pytest.raises(UsageError, match="no such file"):
            read_force_map(tmp_path / "nothing.npz")
        written.unlink()
        with pytest.raises(UsageError, match="no such file"):
            read_force_map(written)


class TestReport:
    def test_numbers_are_those_of_the_statistics(self) -> None:
        total = statistics(4)
        optimal = fit_optimal(total.select([0, 1]), SITES, GROUPS)
        maps = [slice_map(SITES, GROUPS), hydrogens_map(SITES, GROUPS), optimal]
        report = map_report(maps, total, [1, 0], [3, 2])
        assert (report.training_trajectories, report.held_out_trajectories) == ((0, 1), (2, 3))
        assert (report.training_frames, report.held_out_frames) == (80, 80)
        assert [item.consistent for item in report.maps] == [False, True, True]
        for item, force_map in zip(report.maps, maps, strict=True):
            mapped = np.concatenate([force_map.apply(random_forces(i)) for i in (2, 3)])
            assert item.held_out == pytest.approx((mapped.astype(np.float64) ** 2).mean())
            assert np.mean(item.held_out_beads) == pytest.approx(item.held_out)
        assert report.maps[2].training <= report.maps[1].training

    def test_the_lowest_is_among_consistent_maps(self) -> None:
        total = statistics(2)
        maps = [slice_map(SITES, GROUPS), hydrogens_map(SITES, GROUPS)]
        report = map_report(maps, total, [0], [1])
        # The slice has less noise here, and another mean.
        assert report.maps[0].held_out < report.maps[1].held_out
        assert report.lowest_held_out == "hydrogens"
        assert map_report(maps[:1], total, [0], [1]).lowest_held_out is None

    def test_leaks_are_refused(self) -> None:
        total = statistics(3)
        with pytest.raises(UsageError, match="both trained on and held out"):
            map_report([slice_map(SITES, GROUPS)], total, [0, 1], [1, 2])
        with pytest.raises(UsageError, match="fitted on trajectories that are held out"):
            map_report([fit_optimal(total, SITES, GROUPS)], total, [0, 1], [2])
