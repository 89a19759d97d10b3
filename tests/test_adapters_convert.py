"""``cgbench convert``: checkpoints, folders and archives of them, as models of our own."""

import io
import json
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import Result
from fault_server import FaultServer
from publisher import AT_HAND, place
from toy_adapters import BEADS, GOLDEN, SETTINGS, save_checkpoint, their_weights
from toy_networks import SMALL, small_network, small_prior
from typer.testing import CliRunner

from cgbench import registry
from cgbench.adapters import load
from cgbench.adapters.archives import checkpoint_in
from cgbench.cli.main import app
from cgbench.errors import CgbenchError, IntegrityError, UsageError, ValidationError
from cgbench.models import GraphNetwork, GraphNetworkSettings, check_potential, load_model
from cgbench.registry import remote_files
from cgbench.testing.strategies import random_chains

POS = torch.tensor(random_chains(3, len(BEADS), 5), dtype=torch.float32)
ONE = torch.zeros_like(BEADS)


def convert(*arguments: object) -> Result:
    command = ["convert", *map(str, arguments)]
    return CliRunner().invoke(app, command, env={"COLUMNS": "250"})


def failure(result: Result) -> CgbenchError:
    assert isinstance(result.exception, CgbenchError), result.output
    return result.exception


@pytest.fixture
def prior(tmp_path: Path) -> Path:
    path = tmp_path / "prior.json"
    path.write_text(small_prior().model_dump_json())
    return path


def contents(tmp_path: Path) -> dict[str, bytes]:
    """The published layout: a folder for each protein, and what archivers add."""
    names = {}
    for index, key in enumerate(("cln", "trp", "ww")):
        weights = their_weights(small_network(index).float())
        path = save_checkpoint(tmp_path / "made" / key / "model.ckpt", weights=weights)
        names[f"Models/{key}/model.ckpt"] = path.read_bytes()
    names["Models/README.md"] = b"Models of the publication"
    names["__MACOSX/Models/cln/._model.ckpt"] = b"resource fork"
    return names


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def tarred(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    return path


def unpacked(path: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def test_a_checkpoint_and_a_prior_become_a_model(tmp_path: Path, prior: Path) -> None:
    source = save_checkpoint(tmp_path / "cln" / "model.ckpt")
    out = tmp_path / "model.pt"
    result = convert(source, "--prior", prior, "--out", out, "--licence", "MIT", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    potential = load_model(out)
    assert (told["name"], told["has_prior"]) == ("cln/model", True)
    assert potential.spec.licence == "MIT"
    assert potential.spec.cutoff == 12.0
    assert told["checkpoint_sha256"] in potential.spec.description
    assert "max_num_neighbors 32" in potential.spec.description
    adapted = load("torchmdnet", source, {"prior": str(prior)})
    torch.testing.assert_close(
        potential(BEADS, POS[0], ONE), adapted(BEADS, POS[0], ONE), rtol=0, atol=0
    )
    assert check_potential(potential, {"chignolin-sample": (BEADS, POS)}).passed
    # The same again is the same file; another one is not replaced unasked.
    content = out.read_bytes()
    assert convert(source, "--prior", prior, "--out", out, "--licence", "MIT").exit_code == 0
    assert out.read_bytes() == content
    error = failure(convert(source, "--out", out))
    assert isinstance(error, UsageError)
    assert "holds another model" in error.message
    assert out.read_bytes() == content
    assert convert(source, "--out", out, "--force").exit_code == 0
    assert load_model(out).prior is None
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("make", [zipped, tarred, unpacked], ids=["zip", "tar.gz", "folder"])
def test_the_layout_of_the_published_models(tmp_path: Path, make: Any) -> None:
    source = make(tmp_path / "Models.archive", contents(tmp_path))
    for index, system in enumerate(("chignolin", "trpcage", "wwdomain")):
        out = tmp_path / f"{system}.pt"
        result = convert(source, "--system", system, "--out", out)
        assert result.exit_code == 0, result.output
        network = load_model(out).network
        expected = small_network(index).float()
        assert isinstance(network, GraphNetwork)
        assert torch.equal(network.embedding.weight, expected.embedding.weight)
    error = failure(convert(source, "--out", tmp_path / "x.pt"))
    assert "which checkpoint?" in error.message
    assert "Models/cln/model.ckpt" in str(error.found)
    assert "__MACOSX" not in str(error.found)
    error = failure(convert(source, "--system", "lambda", "--out", tmp_path / "x.pt"))
    assert "no checkpoint of lambda in it" in error.message
    member = convert(source, "--member", "Models/ww/model.ckpt", "--out", tmp_path / "x.pt")
    assert member.exit_code == 0
    assert load_model(tmp_path / "x.pt").spec.name == "ww/model"


@pytest.mark.data
def test_the_published_archive_from_download_to_model(
    tmp_path: Path, published_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything as documented, from a publisher on loopback."""
    root, home = tmp_path / "server", tmp_path / "home"
    root.mkdir()
    (archive,) = remote_files([registry.SUITE], ["models"])
    zipped(place(root, archive), contents(tmp_path))
    for file in remote_files([registry.SUITE], ["setup"]):
        source = published_dir / AT_HAND[file.content] / file.name
        place(root, file).write_bytes(source.read_bytes())
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with FaultServer(root) as server:
        for kind in ("models", "setup"):
            command = ["download", "suite", "--kind", kind, "--home", str(home)]
            result = CliRunner().invoke(app, [*command, "--mirror", server.url])
            assert result.exit_code == 0, result.output
    out = tmp_path / "model.pt"
    options = ["--system", "chignolin", "--prior", "published", "--home", home, "--out", out]
    settings = ["--settings", published_dir / "train.yaml"]
    result = convert(home / archive.path, *options, "--name", "majewski-2023/chignolin")
    assert result.exit_code == 0, result.output
    potential = load_model(out)
    assert potential.spec.name == "majewski-2023/chignolin"
    types = torch.tensor(registry.system("chignolin").bead_types)
    assert float(potential.chains(types, POS).prior_energy.min()) > 0.0
    # The published settings are those of another network than this small one.
    error = failure(convert(home / archive.path, *options, *settings))
    assert isinstance(error, ValidationError)
    assert "another " in error.message


@pytest.mark.parametrize(("rbf_type", "activation"), [("expnorm", "silu"), ("gauss", "ssp")])
def test_other_activations_and_radial_functions_are_carried_over(
    tmp_path: Path, rbf_type: str, activation: str
) -> None:
    changed = {"rbf_type": rbf_type, "activation": activation}
    network = GraphNetwork(GraphNetworkSettings(**(SMALL.model_dump() | changed)))
    source = save_checkpoint(tmp_path / "a.ckpt", changed, their_weights(network))
    out = tmp_path / "model.pt"
    assert convert(source, "--out", out).exit_code == 0
    converted = load_model(out)
    assert isinstance(converted.network, GraphNetwork)
    assert converted.network.settings.activation == activation
    assert converted.network.settings.rbf_type == rbf_type
    expected = network.energy_forces_chains(BEADS, POS)[0].detach()
    torch.testing.assert_close(converted.chains(BEADS, POS).network_energy, expected)


def test_without_the_published_force_field(tmp_path: Path) -> None:
    source = save_checkpoint(tmp_path / "a.ckpt")
    error = failure(convert(source, "--prior", "published", "--home", tmp_path / "home"))
    assert isinstance(error, UsageError)
    assert error.fix == "cgbench download suite --kind setup"


@pytest.mark.parametrize(
    ("settings", "options", "kind", "message"),
    [
        ({"activation": "no-such"}, (), ValidationError, "not a model that can be converted"),
        ({}, ("--adapter", "mlcg"), UsageError, "are run, not converted"),
        ({}, ("--adapter-option", "max_num_neighbors=32"), UsageError, "every bead within"),
        ({}, ("--adapter-option", "nonsense"), UsageError, "not an option"),
        ({}, ("--system", "chignolin"), UsageError, "choose in an archive"),
    ],
)
def test_what_cannot_be_converted(
    tmp_path: Path,
    settings: dict[str, Any],
    options: tuple[str, ...],
    kind: type[CgbenchError],
    message: str,
) -> None:
    source = save_checkpoint(tmp_path / "a.ckpt", settings)
    error = failure(convert(source, "--out", tmp_path / "model.pt", *options))
    assert isinstance(error, kind)
    assert message in error.message
    assert not (tmp_path / "model.pt").exists()


def test_another_architecture_says_how_to_run_it(tmp_path: Path) -> None:
    error = failure(convert(GOLDEN / "equivariant-transformer.ckpt", "--out", tmp_path / "m.pt"))
    assert isinstance(error, ValidationError)
    assert "model equivariant-transformer" in str(error.found)
    assert "--trust" in str(error.fix)


def test_another_vocabulary_is_renumbered(tmp_path: Path) -> None:
    beads = registry.bead_vocabulary().beads
    file = tmp_path / "vocabulary.yaml"
    file.write_text(yaml.safe_dump({bead.letter: (bead.type + 3) % 23 for bead in beads}))
    source = save_checkpoint(tmp_path / "a.ckpt")
    option = f"vocabulary={file}"
    out = tmp_path / "model.pt"
    assert convert(source, "--out", out, "--adapter-option", option).exit_code == 0
    expected = load("torchmdnet", source)((BEADS + 3) % 23, POS[0], ONE)
    torch.testing.assert_close(load_model(out)(BEADS, POS[0], ONE), expected)
    file.write_text(yaml.safe_dump({"A": 1}))
    error = failure(convert(source, "--out", out, "--adapter-option", option))
    assert "GLY" in str(error.found)


def test_weights_in_double_precision_are_rounded_and_that_is_said(tmp_path: Path) -> None:
    weights = their_weights(small_network())
    source = save_checkpoint(tmp_path / "a.ckpt", {"precision": 64}, weights)
    result = convert(source, "--out", tmp_path / "model.pt", "--json")
    notes = json.loads(result.stdout)["notes"]
    assert "Weights were rounded from double to single precision." in notes
    assert SETTINGS["precision"] == 32


def damaged_archives(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    good = zipped(tmp_path / "good.zip", contents(tmp_path)).read_bytes()
    for name, content in (("cut", good[: len(good) // 2]), ("text", b"text"), ("empty", b"")):
        path = tmp_path / f"{name}.zip"
        path.write_bytes(content)
        yield name, path


def test_damaged_archives(tmp_path: Path) -> None:
    for _, path in damaged_archives(tmp_path):
        with (
            pytest.raises(IntegrityError, match=path.name),
            checkpoint_in(path, system="chignolin"),
        ):
            raise AssertionError("opened")


def test_names_that_lead_elsewhere_stay_names(tmp_path: Path) -> None:
    """A member is written under its last part only, in a folder of its own."""
    content = save_checkpoint(tmp_path / "a.ckpt").read_bytes()
    source = zipped(tmp_path / "a.zip", {"/up/cln/model.ckpt": content})
    with checkpoint_in(source, system="chignolin") as (path, name):
        assert name == "/up/cln/model.ckpt"
        assert path.parts[-2:] == ("cln", "model.ckpt")
        kept = path
    assert not kept.exists()
    empty = zipped(tmp_path / "b.zip", {"a.txt": b""})
    with pytest.raises(UsageError, match="in it") as raised, checkpoint_in(empty):
        raise AssertionError("opened")
    assert raised.value.found == "no file ending in .ckpt"
