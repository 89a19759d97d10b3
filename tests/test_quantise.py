"""Stores of 16-bit integers: errors within the bound, and nothing else differs."""

import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_sources import LAYOUT, ArraySource, metadata_of, random_source, write
from toy_store import RULE, ToySource
from typer.testing import CliRunner

from cgbench import registry
from cgbench.errors import UsageError, ValidationError
from cgbench.store import INVALID_COUNT, Quantisation, open_store, verify_store, write_store
from cgbench.store.quantise import choose_quantisation, coarsest_bound, decode, encode

MAPS = ("slice", "optimal")


def centred(coordinates):
    values = coordinates.astype(np.float64)
    return values - values.mean(axis=1, keepdims=True)


def is_power_of_two(number):
    return number > 0 and np.frexp(number)[0] == 0.5


@pytest.fixture
def source():
    source = random_source()
    # What screening found is far outside of what 16 bits could hold.
    source.coordinates[~source.valid] *= 1e6
    source.forces["slice"][np.flatnonzero(~source.valid)[0], 2, 1] = np.nan
    return source


@pytest.fixture
def stored(source, tmp_path):
    quantisation = choose_quantisation(source)
    write(tmp_path / "toy.zarr", source, quantisation=quantisation)
    return open_store(tmp_path / "toy.zarr")


@settings(max_examples=60, deadline=None)
@given(
    exponent=st.floats(-6, 1.9),
    n_beads=st.integers(1, 6),
    seed=st.integers(0, 2**32 - 1),
    invalid=st.floats(0, 0.9),
)
def test_no_error_is_above_the_bound(exponent, n_beads, seed, invalid):
    random = np.random.default_rng(seed)
    shape = (20, n_beads, 3)
    valid = random.random(20) >= invalid
    valid[0] = True
    forces = random.standard_cauchy(size=shape) * 10 ** (exponent - 2)
    source = ArraySource(
        (random.normal(size=shape) * 10**exponent + 30).astype(np.float32),
        # Larger numbers are refused, see below.
        {"slice": forces.clip(-2000, 2000).astype(np.float32)},
        valid=valid,
    )
    chosen = choose_quantisation(source)
    for name, exact in (
        ("coordinates", centred(source.coordinates)),
        ("forces/slice", source.forces["slice"].astype(np.float64)),
    ):
        scale, bound = chosen.scales[name], chosen.bounds[name]
        assert bound == scale / 2
        assert is_power_of_two(scale)
        # Half of it would not do, and twice the error would be the price of the next.
        assert np.abs(exact[valid]).max() <= 32767 * scale
        assert scale == 2.0**-24 or np.abs(exact[valid]).max() > 32767 * scale / 2
        values = source.coordinates if name == "coordinates" else source.forces["slice"]
        counts = encode(name, values, chosen, valid)
        assert counts.dtype == np.int16
        assert (counts[~valid] == INVALID_COUNT).all()
        assert (counts[valid] != INVALID_COUNT).all()
        found = decode(name, counts, chosen)
        assert found.dtype == np.float32
        assert np.isnan(found[~valid]).all()
        assert np.abs(found[valid].astype(np.float64) - exact[valid]).max() <= bound
        again = encode(
            "forces/slice", found, Quantisation(scales={"forces/slice": scale}, bounds={})
        )
        assert np.array_equal(again, counts)


def test_the_integers_are_those_of_exact_arithmetic(source):
    chosen = choose_quantisation(source)
    frame = int(np.flatnonzero(source.valid)[3])
    counts = encode("coordinates", source.coordinates, chosen, source.valid)
    scale = Fraction(chosen.scales["coordinates"])
    numbers = [[Fraction(float(x)) for x in bead] for bead in source.coordinates[frame]]
    for axis in range(3):
        mean = sum(bead[axis] for bead in numbers) / len(numbers)
        for bead, row in enumerate(numbers):
            assert abs(int(counts[frame, bead, axis]) - (row[axis] - mean) / scale) <= Fraction(
                1, 2
            ) + Fraction(1, 10**6)


def test_what_does_not_fit_is_refused(source):
    with pytest.raises(ValidationError, match="does not fit in 16 bits") as error:
        encode(
            "forces/slice",
            source.forces["slice"],
            Quantisation(scales={"forces/slice": 2.0**-15}, bounds={}),
            source.valid,
        )
    assert "32767 times" in error.value.message
    with pytest.raises(ValidationError, match="no scale"):
        encode("forces/other", source.forces["slice"], choose_quantisation(source))
    with pytest.raises(ValidationError, match="no scale"):
        decode("forces/other", np.zeros((1, 2, 3), np.int16), choose_quantisation(source))


@pytest.mark.parametrize(("name", "field"), [("coordinates", 0), ("forces/slice", 1)])
def test_what_would_be_coarser_than_the_registry_accepts_is_refused(name, field, source):
    bound = coarsest_bound(name)
    assert bound == (0.005, 0.05)[field]
    assert bound in registry.constants().model_dump().values()
    largest = 32767 * 2.0 ** np.floor(np.log2(2 * bound))
    values = source.coordinates if field == 0 else source.forces["slice"]
    frame = int(np.flatnonzero(source.valid)[0])
    values[frame] = 0
    values[frame, 0, 0], values[frame, 1, 0] = 0.999 * largest, -0.999 * largest
    assert choose_quantisation(source).bounds[name] <= bound
    values[frame, 0, 0], values[frame, 1, 0] = 1.001 * largest, -1.001 * largest
    with pytest.raises(ValidationError, match="too coarse") as error:
        choose_quantisation(source)
    assert f"at most {bound:g}" in error.value.message
    source.valid[frame] = False
    assert choose_quantisation(source).bounds[name] <= bound
    source.valid[:] = False
    with pytest.raises(ValidationError, match="valid frames"):
        choose_quantisation(source)


def test_a_valid_frame_that_is_not_finite_is_refused(source):
    source.forces["slice"][int(np.flatnonzero(source.valid)[0]), 0, 0] = np.inf
    with pytest.raises(ValidationError, match="not finite"):
        choose_quantisation(source)


def test_an_array_of_zeros(source):
    source.forces["slice"][:] = 0
    chosen = choose_quantisation(source)
    assert not encode("forces/slice", source.forces["slice"], chosen).any()


def test_the_store_gives_back_decoded_and_encoded_numbers(source, stored):
    chosen = stored.metadata.quantisation
    valid = source.valid
    assert np.array_equal(stored.valid, valid)
    counts, scale = stored.encoded("forces/optimal", 5, 33)
    assert counts.dtype == np.int16
    assert scale == chosen.scales["forces/optimal"]
    assert np.array_equal(
        counts[valid[5:33]].astype(np.float32) * np.float32(scale),
        stored.forces(5, 33)[valid[5:33]],
    )
    found = stored.coordinates()
    assert found.dtype == np.float32
    exact = centred(source.coordinates)
    assert np.abs(found[valid] - exact[valid]).max() <= chosen.bounds["coordinates"]
    for name in MAPS:
        error = np.abs(stored.forces(force_map=name)[valid] - source.forces[name][valid]).max()
        assert 0 < error <= chosen.bounds[f"forces/{name}"]
        assert np.isnan(stored.forces(force_map=name)[~valid]).all()
    with pytest.raises(UsageError, match="no integers of velocities"):
        stored.encoded("velocities")
    with pytest.raises(ValidationError, match="out of range"):
        stored.encoded("coordinates", 0, 41)


def test_every_view_decodes_to_the_same_bits(stored):
    import xarray

    for dataset, name in (
        (xarray.open_zarr(stored.path), "coordinates"),
        (xarray.open_zarr(stored.path, group="forces", consolidated=False), "optimal"),
    ):
        values = dataset[name].values
        own = stored.coordinates() if name == "coordinates" else stored.forces()
        assert np.array_equal(values, own.astype(np.float64), equal_nan=True)
        assert dataset[name].encoding["scale_factor"] > 0
    labelled = stored.dataset()
    assert labelled.coordinates.dtype == labelled.forces_slice.dtype == np.float32
    assert np.array_equal(labelled.forces_slice.values, stored.forces(force_map="slice"), True)
    assert labelled.coordinates.attrs["units"] == "angstrom"
    assert labelled.forces_slice.attrs["units"] == "kcal/mol/angstrom"
    assert (
        labelled.forces_slice.attrs["error_bound"]
        == (stored.metadata.quantisation.bounds["forces/slice"])
    )
    raw = xarray.open_zarr(stored.path, mask_and_scale=False)
    assert raw.coordinates.dtype == np.int16


def test_a_float_store_has_no_integers(tmp_path):
    write(tmp_path / "toy.zarr")
    with pytest.raises(UsageError, match="without quantisation"):
        open_store(tmp_path / "toy.zarr").encoded("coordinates")


@pytest.mark.parametrize("codec", ["zstd", "lz4", "none"])
def test_damage_is_found_in_a_quantised_store(source, codec, tmp_path):
    metadata = metadata_of(source, quantisation=choose_quantisation(source))
    path = tmp_path / "toy.zarr"
    manifest = write_store(path, source, metadata, layout=LAYOUT, codec=codec)
    assert {record.name: record.dtype for record in manifest.arrays}["forces/slice"] == "int16"
    assert verify_store(path).problems == ()
    shard = path / "forces/slice/c/1/0/0"
    content = bytearray(shard.read_bytes())
    content[40] ^= 4
    shard.write_bytes(content)
    assert any("forces/slice/c/1/0/0" in problem for problem in verify_store(path).problems)


def test_info_shows_scales_and_bounds(stored):
    from cgbench.cli.main import app

    answer = CliRunner().invoke(app, ["info", str(stored.path), "--json", "--verify"])
    assert answer.exit_code == 0, answer.output
    shown = json.loads(answer.stdout)
    assert shown["metadata"]["quantisation"]["scales"] == stored.metadata.quantisation.scales
    assert shown["verification"]["problems"] == []


def test_splits_and_datasets_take_decoded_numbers(tmp_path):
    from toy_store import make_home, metadata

    from cgbench.data import ProteinForcesDataset
    from cgbench.splits import make_block_split

    home = make_home(tmp_path, ToySource())
    exact = open_store("toy", home)
    source = ToySource()
    chosen = metadata("toy").model_copy(update={"quantisation": choose_quantisation(source)})
    write_store(tmp_path / "small.zarr", source, chosen)
    small = open_store(tmp_path / "small.zarr")
    assert small.fingerprint != exact.fingerprint
    splits = [make_block_split(store, RULE) for store in (exact, small)]
    first, second = (
        ProteinForcesDataset(store, "val", split)
        for store, split in zip((exact, small), splits, strict=True)
    )
    assert np.array_equal(first.frames, second.frames)
    chosen_bounds = small.metadata.quantisation.bounds
    one, two = first.load(), second.load()
    assert (one.forces - two.forces).abs().max() <= chosen_bounds["forces/optimal"]
    shift = one.pos.double() - one.pos.double().mean(1, keepdim=True) - two.pos.double()
    assert shift.abs().max() <= chosen_bounds["coordinates"] + 1e-6
