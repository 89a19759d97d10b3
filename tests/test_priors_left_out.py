"""Priors from stores: nothing of a left-out protein enters, and variants can be computed."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from toy_store import RULE, metadata
from typer.testing import CliRunner

from cgbench import registry
from cgbench.cli.main import app
from cgbench.errors import UsageError, ValidationError
from cgbench.models import NetworkPotential, PotentialSpec, TrainedOn, load_model, save_model
from cgbench.pipeline.mutant_screening import require_beads
from cgbench.pipeline.priors import fit_prior, prior_data, read_prior
from cgbench.priors import PriorFitSettings, PriorParameters
from cgbench.splits import make_split, write_split
from cgbench.store import FrameBlock, Layout, open_store, write_store

#: Chains of chignolin, of the same under another name, and of two other proteins.
SYSTEMS = {
    "chignolin": "chignolin",
    "mine": "chignolin",
    "bba": "bba",
    "homeodomain": "homeodomain",
}
SETTINGS = PriorFitSettings(terms=("bonds", "dihedrals"))
N_FRAMES = 1200


class Chains:
    """Random walks of bonds of about 3.8 Å, bent and turned at random."""

    force_maps = ("slice",)
    trajectory_lengths = np.array([N_FRAMES // 6] * 6, dtype=np.int64)
    n_frames = N_FRAMES

    def __init__(self, sequence: str, seed: int, bond: float = 3.8) -> None:
        random = np.random.default_rng([seed, len(sequence)])
        self.bead_types = np.array(registry.bead_vocabulary().types(sequence), dtype=np.int64)
        self.n_beads = len(sequence)
        steps = random.normal(size=(N_FRAMES, self.n_beads - 1, 3))
        lengths = random.normal(bond, 0.06, (N_FRAMES, self.n_beads - 1, 1))
        steps *= lengths / np.linalg.norm(steps, axis=-1, keepdims=True)
        self.coordinates = np.zeros((N_FRAMES, self.n_beads, 3), dtype=np.float32)
        self.coordinates[:, 1:] = np.cumsum(steps, axis=1)

    def read(self, start: int, stop: int) -> FrameBlock:
        block = self.coordinates[start:stop]
        valid = np.ones(len(block), dtype=bool)
        return FrameBlock(coordinates=block, forces={"slice": np.zeros_like(block)}, valid=valid)


def put(home: Path, system: str, seed: int = 0, bond: float = 3.8) -> None:
    """Write the store of a system and its splits."""
    sequence = registry.system(SYSTEMS[system]).sequence
    described = metadata(system).model_copy(
        update={
            "sequence": sequence,
            "force_maps": ("slice",),
            "default_force_map": "slice",
            "force_map_consistent": {"slice": "unknown"},
        }
    )
    path = home / "store" / f"{system}.zarr"
    source = Chains(sequence, seed, bond)
    write_store(path, source, described, layout=Layout(chunk=100, chunks_per_shard=8))
    for split in ("block-v1", "lopo-chignolin"):
        made = make_split(split, open_store(path), RULE)
        write_split(home / "splits" / system / f"{split}.json", made)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for system in SYSTEMS:
        put(tmp_path / "home", system)
    return tmp_path / "home"


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures of forty panels take longer than the rest."""
    monkeypatch.setattr("cgbench.pipeline.priors.plot_transferable_prior", lambda *_: Figure())


def fit(home: Path, out: Path) -> PriorParameters:
    return fit_prior(list(SYSTEMS), out, left_out="chignolin", settings=SETTINGS, home=home).prior


@pytest.mark.usefixtures("undrawn")
def test_data_of_the_left_out_protein_change_nothing(home: Path, tmp_path: Path) -> None:
    found = fit(home, tmp_path / "first")
    record = found.transferable
    assert record is not None
    assert record.left_out == "chignolin"
    assert [origin.system for origin in record.fitted_on] == ["bba", "homeodomain"]
    assert {origin.split_id for origin in record.fitted_on} == {"lopo-chignolin"}
    before = open_store("chignolin", home).fingerprint
    for system in ("chignolin", "mine"):
        remove(home, system)
        put(home, system, seed=9, bond=3.5)
    assert open_store("chignolin", home).fingerprint != before
    assert fit(home, tmp_path / "second").fingerprint == found.fingerprint
    # The test can fail: other data of a protein that is trained on do change it.
    remove(home, "bba")
    put(home, "bba", seed=9)
    assert fit(home, tmp_path / "third").fingerprint != found.fingerprint


def remove(home: Path, system: str) -> None:
    path = home / "store" / f"{system}.zarr"
    for file in sorted(path.rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    path.rmdir()


def test_frames_are_those_of_the_training_part(home: Path) -> None:
    data = prior_data("bba", "block-v1", home=home)
    assert not isinstance(data, str)
    store = open_store("bba", home)
    split = make_split("block-v1", store, RULE)
    frames = split.frames("train")
    read: NDArray[np.float32] = np.concatenate(list(data.blocks()))
    assert np.array_equal(read, store.coordinates()[frames])
    assert len(data.weights) == len(frames)
    fewer = prior_data("bba", "block-v1", stride=10, home=home)
    assert not isinstance(fewer, str)
    assert 0.05 < len(fewer.weights) / len(frames) < 0.2


def test_commands_fit_and_show(home: Path, tmp_path: Path) -> None:
    def run(*words: str) -> dict[str, object]:
        done = CliRunner().invoke(app, ["priors", *words, "--json"])
        assert done.exit_code == 0, done.output
        found: dict[str, object] = json.loads(done.stdout)
        return found

    # Random walks have no repulsion to fit, so the command's own settings need real chains.
    sample = tmp_path / "sample"
    told = run("fit", "chignolin-sample", "--out", str(sample), "--stride", "20")
    assert told["skipped"] == {}
    assert (sample / "prior.png").stat().st_size > 10_000
    shown = run("show", str(sample))
    assert shown["fingerprint"] == told["fingerprint"]
    assert shown["bonds"] == 21 * 21
    words = ["priors", "fit", "mine", "--left-out", "chignolin", "--out", str(tmp_path / "none")]
    caught = CliRunner().invoke(app, [*words, "--home", str(home)]).exception
    assert isinstance(caught, ValidationError)
    assert "mine: same sequence as chignolin" in caught.message
    caught = CliRunner().invoke(app, [*words, "--split", "block-v1", "--home", str(home)]).exception
    assert isinstance(caught, UsageError)
    lines = CliRunner().invoke(app, ["priors", "show", str(sample / "prior.json")]).output
    assert "fitted on: chignolin-sample" in lines


@pytest.mark.usefixtures("undrawn")
def test_a_transferable_prior_computes_variants_and_controls(home: Path, tmp_path: Path) -> None:
    """As the mutants' test asks: every bead and pair of a variant, and poly-glycine."""
    prior = fit_prior(["bba", "homeodomain"], tmp_path, settings=SETTINGS, home=home).prior
    trained = TrainedOn(
        system="homeodomain", split_id="block-v1", split_fingerprint="", store_fingerprint=""
    )
    spec = PotentialSpec(name="toy", trained_on=(trained,))
    prior = prior.model_copy(update={"repulsion": dict.fromkeys(range(1, 23), 100.0)})
    save_model(tmp_path / "model.pt", NetworkPotential(None, prior, spec))
    potential = load_model(tmp_path / "model.pt")
    assert potential.prior == prior
    assert read_prior(tmp_path / "model.pt").transferable == prior.transferable
    variant = registry.mutant("homeodomain-1P7I")
    assert variant.sequence is not None
    for sequence in (variant.sequence, registry.system("proteinb").sequence, "G" * 54):
        require_beads(potential, sequence)
        types = torch.tensor(registry.bead_vocabulary().types(sequence))
        chain = torch.tensor(Chains(sequence, 3).coordinates[:5])
        found = potential.chains(types, chain)
        assert torch.isfinite(found.prior_energy).all()
        assert torch.isfinite(found.forces).all()
