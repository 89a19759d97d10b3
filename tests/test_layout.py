"""Folders in step: code, assets, cards and baselines tell the same story."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from cgbench import config, registry
from cgbench.config import assets_home
from cgbench.evaluate import read_reference
from cgbench.models import load_model
from cgbench.pipeline.schemas import main as export_schemas
from cgbench.splits import check_split, read_split
from cgbench.store import open_store
from cgbench.train.kinds import read_config

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "cgbench"
ASSETS = assets_home()

MODULES = sorted(PACKAGE.rglob("*.py"))
BASELINES = sorted(path.parent for path in (ROOT / "baselines").glob("*/*/config.yaml"))
MODELS = sorted((ASSETS / "models").rglob("model.pt"))
STORES = sorted((ASSETS / "store").glob("*.zarr"))
SPLITS = sorted((ASSETS / "splits").glob("*/*.json"))
REFERENCES = sorted((ASSETS / "references").glob("*/*.zarr"))

MAXIMUM_LINES = 400
MAXIMUM_STORE = 24_000_000
MAXIMUM_ASSETS = 40_000_000
MAXIMUM_MODEL = 2_000_000


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_there_is_something_to_check() -> None:
    assert len(MODULES) > 50
    assert all((BASELINES, MODELS, STORES, SPLITS, REFERENCES))


def test_every_baseline_folder_is_complete() -> None:
    folders = [path for path in (ROOT / "baselines").glob("*/*") if path.is_dir()]
    assert sorted(folders) == BASELINES


@pytest.mark.parametrize("folder", BASELINES, ids=relative)
def test_a_baseline_has_configuration_card_and_results(folder: Path) -> None:
    name = f"{folder.parent.name}/{folder.name}"
    settings = read_config(folder / "config.yaml")
    assert settings.name == name
    assert all(registry.system(key) for key in settings.systems)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert name in card
    assert any((folder / "results").glob("*.json")) or "| status | not yet run |" in card
    assert not list(folder.rglob("*.py"))


@pytest.mark.parametrize("path", MODELS, ids=relative)
def test_a_shipped_model_is_a_baseline_trained_on_the_shipped_data(path: Path) -> None:
    name = path.parent.relative_to(ASSETS / "models").as_posix()
    assert ROOT / "baselines" / name in BASELINES
    assert path.stat().st_size <= MAXIMUM_MODEL
    spec = load_model(path).spec
    settings = read_config(ROOT / "baselines" / name / "config.yaml")
    assert spec.name == name
    assert spec.licence == settings.licence
    assert spec.seeds == tuple(range(settings.seed, settings.seed + (spec.best_of_n or 1)))
    assert spec.training_cost_s
    assert spec.trained_on
    for data in spec.trained_on:
        assert data.part == "train"
        assert data.store_fingerprint == open_store(store_of(data.system)).fingerprint
        split = read_split(ASSETS / "splits" / data.system / f"{data.split_id}.json")
        assert data.split_fingerprint == split.fingerprint
        assert (settings.system, settings.split) == (data.system, data.split_id)


def store_of(system: str) -> Path:
    return ASSETS / "store" / f"{system}.zarr"


def test_assets_are_small() -> None:
    sizes = {path: path.stat().st_size for path in ASSETS.rglob("*") if path.is_file()}
    assert sum(sizes.values()) <= MAXIMUM_ASSETS
    for store in STORES:
        inside = sum(size for path, size in sizes.items() if path.is_relative_to(store))
        assert inside <= MAXIMUM_STORE


def test_embedded_data_are_those_that_the_registry_names() -> None:
    embedded = sorted(system.key for system in registry.systems() if system.embedded)
    assert sorted(path.stem for path in STORES) == embedded
    assert sorted(path.stem for path in REFERENCES) == embedded
    assert sorted({path.parent.name for path in SPLITS}) == embedded
    assert sorted(path.stem for path in (ASSETS / "native").glob("*.pdb")) == embedded


@pytest.mark.parametrize("path", SPLITS, ids=relative)
def test_an_embedded_split_belongs_to_its_store(path: Path) -> None:
    split = read_split(path)
    assert (split.system, split.id) == (path.parent.name, path.stem)
    check_split(split, open_store(store_of(split.system)))


@pytest.mark.parametrize("path", REFERENCES, ids=relative)
def test_an_embedded_reference_belongs_to_its_store(path: Path) -> None:
    bundle = read_reference(path)
    store = open_store(store_of(path.stem))
    assert bundle.system == path.stem
    assert bundle.version == path.parent.name
    assert bundle.store_fingerprint == store.fingerprint
    assert bundle.metadata.n_frames == store.n_frames
    assert bundle.metadata.analysis == registry.system(path.stem).analysis
    assert bundle.converged == registry.system(path.stem).converged


def test_every_data_set_has_a_card_and_every_card_a_registry_entry() -> None:
    folders = {path.name for path in (ROOT / "datasets").iterdir() if path.is_dir()}
    known = {system.key for system in registry.systems()}
    assert folders == known | {"recipes"}
    for name in known:
        card = (ROOT / "datasets" / name / "README.md").read_text(encoding="utf-8")
        assert card.startswith(f"# {name}\n")


@pytest.mark.parametrize("folder", ["datasets", "leaderboard", "benchmarks", "benchmarks/peers"])
def test_every_folder_for_people_says_what_it_is(folder: str) -> None:
    assert (ROOT / folder / "README.md").is_file()


@pytest.mark.parametrize("folder", ["datasets", "baselines", "leaderboard"])
def test_folders_of_data_hold_no_code(folder: str) -> None:
    assert not list((ROOT / folder).rglob("*.py"))


def test_modules_are_short() -> None:
    lengths = {
        relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES
    }
    assert {name: n for name, n in lengths.items() if n > MAXIMUM_LINES} == {}


#: What such a file is opened for is to run it, and only where the user trusts it.
OPENED_WHEN_TRUSTED = {"cgbench/adapters/mlcg.py": ["torch.load without weights_only=True"]}


def unsafe_reads(source: str) -> Iterator[str]:
    """Names of what could run code from a file; the exceptions of pickle are harmless."""
    modules = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
    harmless = {"UnpicklingError", "PickleError"}
    tree = ast.parse(source)
    assigned = {
        ast.unparse(node.target): ast.unparse(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign) and node.value is not None
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (
                item.name
                for item in node.names
                if item.name in modules - {"pickle"} or (item.name == "pickle" and item.asname)
            )
        elif isinstance(node, ast.ImportFrom) and node.module in modules:
            yield from (item.name for item in node.names if item.name not in harmless)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == "pickle" and node.attr not in harmless:
                yield f"pickle.{node.attr}"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            arguments = {item.arg: item.value for item in node.keywords}
            target = ast.unparse(node.func)
            wanted = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}
            if target in wanted:
                name, value = wanted[target]
                given = arguments.get(name)
                if not (isinstance(given, ast.Constant) and given.value is value):
                    yield f"{target} without {name}={value}"
            if target in {"yaml.unsafe_load", "yaml.full_load"}:
                yield target
            if target == "yaml.load":
                loader = ast.unparse(arguments["Loader"]) if "Loader" in arguments else ""
                if "SafeLoader" not in assigned.get(loader, loader):
                    yield target


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_no_module_can_run_code_from_a_file(path: Path) -> None:
    found = list(unsafe_reads(path.read_text(encoding="utf-8")))
    assert found == OPENED_WHEN_TRUSTED.get(relative(path), [])


@pytest.mark.parametrize(
    "source",
    [
        "import pickle\npickle.load(f)",
        "import pickle as p\np.load(f)",
        "from pickle import loads",
        "import joblib",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "np.load(f)",
        "np.load(f, allow_pickle=True)",
        "yaml.load(f)",
        "yaml.load(f, Loader=yaml.Loader)",
    ],
)
def test_the_search_for_unsafe_reads_finds_them(source: str) -> None:
    assert list(unsafe_reads(source))


def test_checked_in_schemas_are_those_of_the_code(tmp_path: Path) -> None:
    assert export_schemas([str(tmp_path)]) == 0
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    there = {path.name: path.read_bytes() for path in (ROOT / "docs" / "schemas").iterdir()}
    assert sorted(there) == sorted(made), "run: python -m cgbench.pipeline.schemas docs/schemas"
    differing = [name for name in made if made[name] != there[name]]
    assert differing == [], "run: python -m cgbench.pipeline.schemas docs/schemas"


def test_exporting_schemas_needs_one_folder() -> None:
    assert export_schemas([]) == 2


def test_configurations_in_the_package_are_valid() -> None:
    paths = sorted((ASSETS / "configs").glob("*.yaml"))
    assert paths
    for path in paths:
        settings = read_config(path)
        assert settings.name == path.stem
        assert config.fingerprint(settings).startswith("sha256:")
