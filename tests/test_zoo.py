"""Models by name: their hash, where they are, and how they are brought here."""

import json
import shutil
from pathlib import Path

import pytest
from fault_server import FaultServer

import cgbench
from cgbench import registry
from cgbench.cli.main import app
from cgbench.config import assets_home, file_sha256
from cgbench.errors import IntegrityError, UsageError
from cgbench.models import load_model, model_hash, save_model
from cgbench.pipeline import zoo
from cgbench.pipeline.programs import load_potential
from cgbench.registry import ZooModel

NAME = "torchmd-gn/chignolin-sample"
SHIPPED = assets_home() / "models" / NAME / "model.pt"
REMOTE = "torchmd-gn/far-away"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def changed(path: Path) -> Path:
    """Write the shipped model with another version."""
    potential = load_model(SHIPPED)
    potential.spec = potential.spec.model_copy(update={"version": "99"})
    path.parent.mkdir(parents=True)
    save_model(path, potential)
    return path


def offer(monkeypatch: pytest.MonkeyPatch, url: str, **facts: object) -> ZooModel:
    """Let the zoo have one more model, behind an address."""
    values = {
        "name": REMOTE,
        "hash": model_hash(SHIPPED),
        "urls": (url,),
        "size": SHIPPED.stat().st_size,
        "sha256": file_sha256(SHIPPED),
    }
    model = ZooModel.model_validate(values | facts)
    known = (*registry.zoo(), model)
    monkeypatch.setattr(registry, "zoo", lambda: known)
    monkeypatch.setattr("cgbench.models.zoo.zoo", lambda: known)
    monkeypatch.setattr(registry, "zoo_model", {item.name: item for item in known}.__getitem__)
    return model


def test_every_shipped_model_is_the_one_that_the_zoo_names() -> None:
    shipped = {path.parent for path in (assets_home() / "models").rglob("model.pt")}
    names = {model.name for model in registry.zoo() if model.shipped}
    assert names == {path.relative_to(assets_home() / "models").as_posix() for path in shipped}
    for model in registry.zoo():
        assert Path("baselines", model.name, "config.yaml").is_file()
        assert cgbench.load(model.name).spec.name == model.name
    with pytest.raises(UsageError, match="no such model of the zoo"):
        registry.zoo_model("torchmd-gn/none")


def test_other_weights_under_a_name_of_the_zoo_are_refused(home: Path) -> None:
    path = changed(home / "models" / NAME / "model.pt")
    for load in (cgbench.load, load_potential):
        with pytest.raises(IntegrityError, match="not the weights of") as error:
            load(NAME, home)
        assert model_hash(path) in error.value.message
    # As a file it is what it is.
    assert cgbench.load(path).spec.version == "99"
    (entry,) = [item for item in zoo.list_models(home) if item.name == NAME]
    assert entry.problem is not None
    assert entry.spec is None
    assert zoo.get_model(NAME, home, force=True).place == "shipped"
    assert not path.exists()


def test_own_models_are_listed_and_a_broken_one_is_a_remark(home: Path) -> None:
    changed(home / "models" / "mine" / "second" / "model.pt")
    broken = home / "models" / "broken" / "model.pt"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"nothing of ours")
    entries = {entry.name: entry for entry in zoo.list_models(home)}
    assert entries["mine/second"].origin == "own"
    assert entries["mine/second"].spec is not None
    assert entries["broken"].problem is not None
    assert entries[NAME].place == "shipped"
    assert cgbench.load("mine/second", home).spec.version == "99"


def test_a_model_is_fetched_and_verified(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = tmp_path / "served"
    served.mkdir()
    shutil.copyfile(SHIPPED, served / "model.pt")
    with FaultServer(served) as server:
        offer(monkeypatch, f"{server.url}/model.pt")
        assert zoo.list_models(home)[-1].place == "not here"
        entry = zoo.get_model(REMOTE, home, out=tmp_path / "copies" / "model.pt")
        assert entry.place == "data home"
        (served / "model.pt").unlink()
        assert zoo.get_model(REMOTE, home).path == entry.path
    assert cgbench.load(REMOTE, home).network is not None
    assert model_hash(tmp_path / "copies" / "model.pt") == entry.hash
    with pytest.raises(UsageError, match="there already"):
        zoo.get_model(REMOTE, home, out=tmp_path / "copies" / "model.pt")


@pytest.mark.parametrize("facts", [{"sha256": "0" * 64}, {"hash": "sha256:" + "0" * 64}])
def test_what_came_is_not_the_model(
    home: Path, monkeypatch: pytest.MonkeyPatch, facts: dict[str, object]
) -> None:
    with FaultServer(SHIPPED.parent) as server:
        offer(monkeypatch, f"{server.url}/model.pt", **facts)
        with pytest.raises(IntegrityError):
            zoo.get_model(REMOTE, home)
    with pytest.raises((IntegrityError, UsageError)):
        cgbench.load(REMOTE, home)


def test_an_address_needs_a_hash_and_weights_a_place() -> None:
    values = {"name": REMOTE, "hash": "sha256:" + "0" * 64}
    with pytest.raises(ValueError, match="need an address"):
        ZooModel.model_validate(values)
    with pytest.raises(ValueError, match="needs the size and the hash"):
        ZooModel.model_validate(values | {"urls": ("https://example.org/model.pt",)})


def test_the_command_line(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    app(["models", "list", "--json", "--home", str(home)], standalone_mode=False)
    listed = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in listed] == [model.name for model in registry.zoo()]
    assert listed[0]["spec"]["trained_on"][0]["store_fingerprint"].startswith("sha256:")
    out = tmp_path / "model.pt"
    app(["models", "get", NAME, "--out", str(out), "--home", str(home)], standalone_mode=False)
    assert capsys.readouterr().out.strip() == str(out)
    assert model_hash(out) == registry.zoo_model(NAME).hash
    app(["models", "list", "--home", str(home)], standalone_mode=False)
    assert "shipped" in capsys.readouterr().out


def test_every_shipped_model_has_its_card(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for model in registry.zoo():
        app(["models", "show", model.name, "--home", str(home)], standalone_mode=False)
        card = capsys.readouterr().out
        assert card.startswith(f"# {model.name}")
        spec = load_model(assets_home() / "models" / model.name / "model.pt").spec
        assert all(f"`{part.store_fingerprint}`" in card for part in spec.trained_on)
        assert all(f"| {fact} |" in card for fact in ("hardware", "seeds", "seeds trained"))
        assert "Failures: " in card
    changed(home / "models" / "mine" / "model.pt")
    app(["models", "show", "mine", "--json", "--home", str(home)], standalone_mode=False)
    shown = json.loads(capsys.readouterr().out)
    assert shown["card"] is None
    assert shown["spec"]["version"] == "99"
    with pytest.raises(UsageError, match="no such model"):
        app(["models", "show", "none", "--home", str(home)], standalone_mode=False)
