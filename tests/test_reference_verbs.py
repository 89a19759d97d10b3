"""``cgbench reference``: built once, kept, verified, drawn; by threads, processes or a cluster."""

import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from cgbench import registry
from cgbench.cli.main import app
from cgbench.errors import IntegrityError, ValidationError
from cgbench.evaluate import read_reference, write_reference
from cgbench.evaluate.reference_build import build_from_store
from cgbench.evaluate.reference_settings import settings_fingerprint
from cgbench.pipeline.reference_verification import bundle_differences, verify_reference
from cgbench.pipeline.references import build_references, reference_store
from cgbench.store import FrameBlock, find_native, open_store, write_store

SAMPLE = "chignolin-sample"
LENGTH, STRIDE = 100, 500


class Part:
    """The first hundred frames of every other trajectory of the sample."""

    force_maps = ()

    def __init__(self):
        store = open_store(SAMPLE)
        flat = store.coordinates()
        starts = np.arange(0, store.n_frames, 2 * STRIDE)
        self.coordinates = np.concatenate([flat[start : start + LENGTH] for start in starts])
        self.n_frames, self.n_beads = self.coordinates.shape[:2]
        self.bead_types = store.bead_types
        self.trajectory_lengths = np.full(len(starts), LENGTH)
        self.metadata = store.metadata.model_copy(
            update={
                "force_maps": (),
                "default_force_map": None,
                "force_map_consistent": {},
                "start_kind": None,
                "quantisation": None,
                "sources": (),
            }
        )

    def read(self, start, stop):
        valid = np.ones(stop - start, dtype=bool)
        return FrameBlock(coordinates=self.coordinates[start:stop], forces={}, valid=valid)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A data home with a small store of reference trajectories, and its bundle."""
    home = tmp_path_factory.mktemp("home")
    part = Part()
    write_store(home / "store" / f"{SAMPLE}-reference.zarr", part, part.metadata)
    (outcome,) = build_references([SAMPLE], home=home, figures=home / "figures")
    assert outcome.status == "built"
    assert outcome.error is None
    return home


def run(*arguments):
    return CliRunner().invoke(app, ["reference", *map(str, arguments)], catch_exceptions=False)


def bundle_path(home):
    return home / "references" / "v2" / f"{SAMPLE}.zarr"


def test_the_store_of_reference_trajectories_comes_first(home):
    assert reference_store(SAMPLE, home).path.name == f"{SAMPLE}-reference.zarr"
    assert reference_store(SAMPLE, home.parent / "nowhere").n_frames == 52_500
    assert read_reference(bundle_path(home)).metadata.n_trajectories == 53


def test_a_bundle_of_the_same_frames_and_settings_is_kept(home, monkeypatch):
    before = bundle_path(home).stat().st_ino
    monkeypatch.setattr("cgbench.pipeline.references.build_reference", None)
    found = run("build", SAMPLE, "--home", home, "--json")
    assert found.exit_code == 0
    record = json.loads(found.stdout)
    assert record["status"] == "kept"
    assert record["fingerprint"] == read_reference(bundle_path(home)).fingerprint
    assert bundle_path(home).stat().st_ino == before


def test_changed_settings_are_built_again(home, monkeypatch):
    entry = registry.system(SAMPLE)
    analysis = entry.analysis.model_copy(update={"n_microstates": 60})
    changed = entry.model_copy(update={"analysis": analysis})
    store = reference_store(SAMPLE, home)
    native = read_reference(bundle_path(home)).native
    prints = {
        settings_fingerprint(entry, store.fingerprint, native, 1.0),
        settings_fingerprint(changed, store.fingerprint, native, 1.0),
        settings_fingerprint(entry, "other frames", native, 1.0),
        settings_fingerprint(entry, store.fingerprint, native + 1, 1.0),
        settings_fingerprint(entry, store.fingerprint, native, 1.0, seed=7),
        settings_fingerprint(entry, store.fingerprint, native, 1.0, n_resamples=7),
    }
    assert len(prints) == 6
    asked = []

    def refused(*arguments, **options):
        asked.append(arguments)
        raise ValidationError("asked to build")

    monkeypatch.setattr("cgbench.pipeline.references.build_reference", refused)
    monkeypatch.setattr("cgbench.registry.system", lambda name: changed)
    (outcome,) = build_references([SAMPLE], home=home)
    assert outcome.status == "failed"
    assert "asked to build" in outcome.error.message
    assert len(asked) == 1
    # What was there stays until something takes its place.
    assert read_reference(bundle_path(home)).metadata.n_microstates == 100


def test_force_builds_again_and_a_failure_hides_no_other_system(home, tmp_path, monkeypatch):
    home = shutil.copytree(home, tmp_path / "home")
    built = read_reference(bundle_path(home))
    asked = []

    def again(store, system, **options):
        asked.append(system.key)
        return built

    monkeypatch.setattr("cgbench.pipeline.references.build_reference", again)
    found = run("build", "chignolin", SAMPLE, "--home", home, "--force", "--json")
    assert found.exit_code == 2
    first, second = json.loads(found.stdout)
    assert first["status"] == "failed"
    assert "cgbench preprocess chignolin" in first["error"]
    assert second["status"] == "built"
    assert asked == [SAMPLE]


def test_settings_and_times_of_a_build_are_told(home):
    attributes = json.loads((bundle_path(home) / "zarr.json").read_text())["attributes"]
    build = attributes["build"]
    assert set(build["stages_seconds"]) == {
        "covariances",
        "observables",
        "microstates",
        "bootstrap",
        "Markov model tests",
        "halves",
    }
    assert sum(build["stages_seconds"].values()) <= build["seconds"]
    assert build["workers"] == 1
    assert attributes["metadata"]["analysis"]["source"]["tica_lag_ps"] == "chosen here"


def test_figures_are_files_of_both_kinds(home):
    names = {path.name for path in (home / "figures").iterdir()}
    assert names == {
        f"{SAMPLE}-{figure}.{suffix}"
        for figure in (
            "split_halves",
            "implied_timescales",
            "chapman_kolmogorov",
            "block_estimates",
        )
        for suffix in ("svg", "png")
    }


def test_show_tells_of_convergence(home):
    found = run("show", SAMPLE, "--home", home)
    assert found.exit_code == 0
    for words in ("implied timescales", "random halves", "Chapman-Kolmogorov", "chosen here"):
        assert words in found.stdout
    record = json.loads(run("show", SAMPLE, "--home", home, "--json").stdout)
    assert record["convergence"]["n_divisions"] == 50


def test_verify_says_what_it_compared(home):
    record = json.loads(run("verify", SAMPLE, "--home", home, "--json").stdout)
    assert record["intact"] is True
    assert (record["store"], record["settings"], record["rebuilt"]) == ("same", "same", None)
    # The embedded store is another one than that which the bundle was built from.
    found = verify_reference(str(bundle_path(home)), home=home / "empty")
    assert (found.store, found.settings) == ("other", "unknown")
    refused = verify_reference(str(bundle_path(home)), home=home / "empty", rebuild=True)
    assert isinstance(refused.error, IntegrityError)


def test_a_rebuilt_bundle_is_compared(home, tmp_path, monkeypatch):
    whole = read_reference(bundle_path(home))
    module = "cgbench.pipeline.reference_verification.build_reference"
    monkeypatch.setattr(module, lambda *arguments, **options: whole)
    found = run("verify", SAMPLE, "--home", home, "--rebuild", "--json")
    assert found.exit_code == 0
    assert json.loads(found.stdout)["rebuilt"] == "identical"
    tica = whole.tica
    object_of = type(whole)
    moved = object_of(
        **{
            **{name: getattr(whole, name) for name in object_of.__dataclass_fields__},
            "tica": type(tica)(
                tica.lag_frames,
                tica.mean,
                tica.components,
                tica.eigenvalues + 1e-3,
                tica.rank,
                tica.n_pairs,
            ),
            "fingerprint": "sha256:other",
        }
    )
    assert bundle_differences(whole, moved)["eigenvalues"] == pytest.approx(1e-3)
    monkeypatch.setattr(module, lambda *arguments, **options: moved)
    found = run("verify", SAMPLE, "--home", home, "--rebuild", "--json")
    assert found.exit_code == 3
    assert "gives something else" in json.loads(found.stdout)["error"]


def test_a_damaged_bundle_fails_verification_and_is_replaced(home, tmp_path, monkeypatch):
    whole = read_reference(bundle_path(home))
    other = tmp_path / "home"
    shutil.copytree(home, other)
    for file in (bundle_path(other) / "frames" / "q" / "c").rglob("*"):
        if file.is_file():
            content = bytearray(file.read_bytes())
            content[len(content) // 2] ^= 255
            file.write_bytes(bytes(content))
    found = run("verify", SAMPLE, "--home", other, "--json")
    assert found.exit_code == 3
    assert json.loads(found.stdout)["intact"] is False
    monkeypatch.setattr("cgbench.pipeline.references.build_reference", lambda *a, **o: whole)
    (outcome,) = build_references([SAMPLE], home=other)
    assert outcome.status == "built"
    assert read_reference(bundle_path(other)).fingerprint == whole.fingerprint


def test_an_error_names_its_system_once(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        app(["reference", "build", "chignolin", "--home", str(tmp_path)])
    assert ended.value.code == 2
    assert "error: chignolin: no store here" in capsys.readouterr().err


def test_options_that_do_not_go_together_are_refused(home, tmp_path):
    runner = CliRunner().invoke(
        app, ["reference", "build", SAMPLE, "chignolin", "--out", str(tmp_path / "x.zarr")]
    )
    assert runner.exit_code != 0
    assert not (tmp_path / "x.zarr").exists()
    unknown = CliRunner().invoke(app, ["reference", "build", "no-such-protein"])
    assert unknown.exit_code != 0


def test_a_store_without_trajectories_is_refused(tmp_path):
    part = Part()
    metadata = part.metadata.model_copy(update={"trajectories_known": False})
    part.trajectory_lengths = None
    write_store(tmp_path / "store" / f"{SAMPLE}-reference.zarr", part, metadata)
    (outcome,) = build_references([SAMPLE], home=tmp_path)
    assert outcome.error.exit_code == 4
    assert "trajectory" in outcome.error.message


def built_with(home, tmp_path, monkeypatch, name, **labour):
    monkeypatch.setattr("cgbench.evaluate.covariances._GROUP_PAIRS", 900)
    monkeypatch.setattr("cgbench.evaluate.reference_analysis._GROUP_FRAMES", 1100)
    native = read_reference(bundle_path(home)).native
    bundle = build_from_store(
        reference_store(SAMPLE, home), registry.system(SAMPLE), native, n_resamples=4, **labour
    )
    write_reference(tmp_path / f"{name}.zarr", bundle)
    return bundle.fingerprint


def test_threads_change_nothing(home, tmp_path, monkeypatch):
    one = built_with(home, tmp_path, monkeypatch, "one", workers=1)
    assert built_with(home, tmp_path, monkeypatch, "three", workers=3) == one


@pytest.mark.slow
def test_processes_and_a_cluster_change_nothing(home, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    one = built_with(home, tmp_path, monkeypatch, "one", workers=1)
    assert built_with(home, tmp_path, monkeypatch, "apart", scheduler="processes", workers=2) == one
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        found = built_with(
            home, tmp_path, monkeypatch, "dask", scheduler=cluster.scheduler_address, workers=2
        )
    assert found == one


RECIPE = """\
key: my-hairpin
sequence: YYDPETGTWY
temperature: 350.0
frame_interval: 1.0
native: native.pdb
npy: {coordinates: pos.npy}
analysis: {tica_lag_ps: 5.0, msm_lag_ps: 5.0, n_microstates: 12, n_macrostates: 2}
"""


def test_a_bundle_of_ones_own_protein(tmp_path):
    part = Part()
    metadata = part.metadata.model_copy(update={"system": "my-hairpin"})
    write_store(tmp_path / "store" / "my-hairpin.zarr", part, metadata)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE)
    (tmp_path / "native").mkdir()
    shutil.copy(find_native(SAMPLE), tmp_path / "native" / "my-hairpin.pdb")
    found = run("build", "--recipe", recipe, "--home", tmp_path, "--json")
    assert found.exit_code == 0
    record = json.loads(found.stdout)
    assert record["system"] == "my-hairpin"
    assert record["n_microstates"] == 12
    assert record["analysis"]["source"]["n_microstates"] == "chosen here"
    assert run("verify", "my-hairpin", "--home", tmp_path).exit_code == 0
    for field in ("analysis", "native"):
        short = "\n".join(line for line in RECIPE.splitlines() if not line.startswith(field))
        recipe.write_text(short)
        (outcome,) = build_references([], home=tmp_path, recipe=recipe)
        assert f"no {field}" in outcome.error.message
        assert outcome.error.exit_code == 2
