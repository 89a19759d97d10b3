"""The mutants' test: one that reads the sequence recovers variants, one that ignores it none."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from toy_mutants import holder, home_with_variants
from toy_runs import save_toy_model

from cgbench import registry
from cgbench.cli.main import app
from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.evaluate import Ensemble
from cgbench.evaluate.native import read_native
from cgbench.evaluate.reference import ReferenceInput, build_from_trajectories
from cgbench.models import (
    GraphNetwork,
    GraphNetworkSettings,
    NetworkPotential,
    PotentialSpec,
    load_model,
)
from cgbench.models.potential import TrainedOn
from cgbench.pipeline import mutant_rows, mutant_screening, mutants
from cgbench.pipeline.mutant_outcomes import parent_outcome, variant_outcome
from cgbench.pipeline.mutant_screening import (
    Screened,
    control_sequences,
    controls_of,
    member_of,
    require_beads,
    screen,
)
from cgbench.pipeline.programs import Opened
from cgbench.priors import read_published_prior
from cgbench.results import ModelIdentity, read_result
from cgbench.results.mutants import MutantsOutcome

HASH = "sha256:" + "0" * 64
VARIANTS = [("homeodomain", "homeodomain-1P7I"), ("proteinb", "proteinb-1GAB")]


@pytest.fixture(scope="module")
def home(tmp_path_factory, request):
    published = request.getfixturevalue("published_dir")
    return home_with_variants(tmp_path_factory.mktemp("home"), published)


@pytest.fixture(scope="module")
def prior(request):
    return read_published_prior(request.getfixturevalue("published_dir") / "prior_force_field.yaml")


@pytest.fixture
def short(monkeypatch):
    """Protocols of a few ps: a chain without contacts unfolds within one."""
    protocols = {
        "mutants": registry.protocol("mutants").model_copy(
            update={"length": 2.0, "output_interval": 0.1}
        ),
        "standard": registry.protocol("standard").model_copy(
            update={"length": 0.8, "n_replicas": 4, "model_msm_lag": 0.1}
        ),
    }
    known = registry.protocol
    monkeypatch.setattr(registry, "protocol", lambda one: protocols.get(one) or known(one))
    screening = registry.mutant_screening().model_copy(update={"window_ps": 1.0})
    monkeypatch.setattr(registry, "mutant_screening", lambda: screening)


def use(monkeypatch, potential):
    """Let a potential without a file stand where a model file is read."""
    opened = Opened(Path("toy"), potential, HASH)
    monkeypatch.setattr(mutants, "open_potential", lambda *_, **__: opened)
    identity = ModelIdentity(name=potential.spec.name, hash=HASH, kind="potential")
    monkeypatch.setattr(mutants, "identity_of", lambda _: identity)


def evaluate(out, home, *keys, **options):
    return mutants.evaluate_mutants(
        "toy", keys, out=out, home=home, **({"protocol": None} | options)
    )


def test_controls_are_fixed_by_the_registry():
    for parent in ("homeodomain", "bbl"):
        controls = control_sequences(parent)
        sequence = registry.system(parent).sequence
        assert controls["wild-type"] == sequence
        assert sorted(controls["shuffled"]) == sorted(sequence)
        same = sum(a == b for a, b in zip(controls["shuffled"], sequence, strict=True))
        assert same < 0.3 * len(sequence)
        assert controls == control_sequences(parent)
    assert control_sequences("bbl")["poly-glycine"] == "G" * 47


@pytest.mark.data
def test_a_model_that_reads_the_sequence_keeps_the_variant_only(
    home, prior, short, tmp_path, monkeypatch
):
    use(monkeypatch, holder(home, "homeodomain", prior, reads_sequence=True))
    outcome = evaluate(tmp_path / "run", home, "homeodomain-1P7I", "homeodomain-2HOS")
    (parent,) = outcome.parents
    status = {one.name: one.status for one in parent.controls}
    assert status == {"wild-type": "stays", "shuffled": "unfolds", "poly-glycine": "unfolds"}
    assert parent.controls_unfold is True
    variant, absent = outcome.variants
    assert (variant.status, variant.mutations) == ("stays", ("K50A",))
    assert variant.median_q > 0.8
    assert absent.status == "missing"
    assert "cgbench download homeodomain-2HOS --kind native" in absent.reason
    written = json.loads((tmp_path / "run" / "mutants.json").read_text())
    assert MutantsOutcome.model_validate(written) == outcome
    result = read_result(tmp_path / "run" / "result.json")
    assert result.track == "mutants"
    assert [item.system for item in result.systems] == ["homeodomain-1P7I", "homeodomain-2HOS"]


@pytest.mark.data
def test_a_model_that_ignores_the_sequence_recovers_nothing(
    home, prior, short, tmp_path, monkeypatch
):
    use(monkeypatch, holder(home, "homeodomain", prior, reads_sequence=False))
    (parent,) = evaluate(tmp_path / "run", home, "homeodomain-1P7I").parents
    assert {one.status for one in parent.controls} == {"stays"}
    assert parent.controls_unfold is False
    # Even if it were found folded from unfolded starts in stage two.
    variant = SimpleNamespace(
        key="homeodomain-1P7I", parent="homeodomain", pdb_id="1P7I", sequence="A",
        mutations=("K50A",), scored_beads=(0, 54),
    )  # fmt: skip
    run = SimpleNamespace(unfolded_starts=10, reached_native=9)
    told = variant_outcome(variant, Screened("stays", 0.9), run, None, parent)
    assert (told.recovered, told.counts) == (True, False)
    assert "does not count: shuffled stays, poly-glycine stays" in told.reason


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(("parent", "key"), VARIANTS)
@pytest.mark.parametrize("reads_sequence", [True, False])
def test_both_variants_at_hand_for_longer(
    home, prior, tmp_path, parent, key, reads_sequence, monkeypatch
):
    protocol = registry.protocol("mutants").model_copy(
        update={"length": 20.0, "output_interval": 0.5}
    )
    screening = registry.mutant_screening().model_copy(update={"window_ps": 4.0})
    monkeypatch.setattr(registry, "mutant_screening", lambda: screening)
    members = [*controls_of(parent, home), member_of(key, home)[1]]
    found = screen(
        holder(home, parent, prior, reads_sequence=reads_sequence), parent, members, protocol,
        seed=3, model_hash=HASH, out=tmp_path / "screening.zarr",
    )  # fmt: skip
    others = "unfolds" if reads_sequence else "stays"
    assert {name: one.status for name, one in found.items()} == {
        "wild-type": "stays", "shuffled": others, "poly-glycine": others, key: "stays",
    }  # fmt: skip


@pytest.mark.data
def test_a_chain_that_breaks_is_lost_not_unfolded(home, prior, short, tmp_path, monkeypatch):
    potential = holder(home, "homeodomain", prior, reads_sequence=True)

    def explode(bead_types, pos, batch):
        return torch.zeros(int(batch.max()) + 1), 1e4 * torch.ones_like(pos) * pos.sign()

    potential.forward = explode
    use(monkeypatch, potential)
    outcome = evaluate(tmp_path / "run", home, "homeodomain-1P7I")
    assert {one.status for one in outcome.parents[0].controls} == {"lost"}
    # Nothing is known of how the controls take to their sequences.
    assert outcome.parents[0].controls_unfold is None
    assert outcome.variants[0].status == "lost"
    result = read_result(tmp_path / "run" / "result.json")
    assert result.systems[0].status == "failed"


@pytest.mark.data
def test_members_have_the_same_numbers_whoever_is_there(home, prior, short, tmp_path):
    potential = holder(home, "homeodomain", prior, reads_sequence=True)
    controls, variant = controls_of("homeodomain", home), member_of("homeodomain-1P7I", home)[1]
    assert variant.slot == 3 + 1
    options = {"seed": 1, "model_hash": HASH, "out": tmp_path / "screening.zarr"}
    protocol = registry.protocol("mutants").model_copy(update={"length": 0.3})
    alone = screen(potential, "homeodomain", [*controls[:1], variant], protocol, **options)
    # More members than before: the batch is simulated again instead of refused.
    more = screen(potential, "homeodomain", [*controls, variant], protocol, **options)
    assert more[variant.key].median_q == pytest.approx(alone[variant.key].median_q, abs=1e-3)
    again = screen(potential, "homeodomain", [*controls, variant], protocol, **options)
    assert again == more


def toy_reference(home, parent="homeodomain"):
    """A reference of the parent: noise around its native structure, and stretched chains."""
    system = registry.system(parent)
    native = read_native(home / "native" / f"{parent}.pdb", system.sequence)
    generator = np.random.default_rng(0)
    index = np.arange(system.n_beads)
    coil = np.stack([3.3 * index, 1.9 * (index % 2), 0.3 * (index % 3)], axis=1)
    folded = generator.random((40, 30)) < 0.5
    frames = np.where(folded[..., None, None], native, coil)
    frames = frames + generator.normal(scale=0.15, size=frames.shape)
    settings = {
        "tica_epsilon": 1e-9,
        "tica_lag_ps": 1.0, "msm_lag_ps": 1.0, "tica_dimensions": 2,
        "n_microstates": 6, "n_macrostates": 2,
    }  # fmt: skip
    source = ReferenceInput(
        system=system.model_copy(update={"analysis": system.analysis.model_copy(update=settings)}),
        trajectories=list(frames.astype(np.float32)),
        valid=np.ones(folded.size, dtype=bool),
        native=native,
        frame_interval=1.0,
        store_fingerprint=HASH,
    )
    return build_from_trajectories(source, n_resamples=20)


@pytest.mark.data
def test_a_variant_that_stays_goes_on_to_the_full_protocol(
    home, prior, short, tmp_path, monkeypatch
):
    bundle = toy_reference(home)
    monkeypatch.setattr(mutant_rows, "find_reference", lambda key, home: key)
    monkeypatch.setattr(mutant_rows, "read_reference", lambda path: bundle)
    use(monkeypatch, holder(home, "homeodomain", prior, reads_sequence=True))
    out = tmp_path / "run"
    outcome = evaluate(out, home, "homeodomain-1P7I", protocol="standard")
    (variant,) = outcome.variants
    # A stretched chain does not fold within a ps, and the folded starts count for nothing.
    assert variant.unfolded_starts is not None
    assert 0 < variant.unfolded_starts <= 4
    assert (variant.reached_native, variant.recovered) == (0, False)
    (row,) = read_result(out / "result.json").systems
    assert (row.system, row.status) == ("homeodomain-1P7I", "ok")
    # The potential does not say what it was trained on, so leaks cannot be looked for.
    assert (row.track, row.leak.status) == ("mutants", "unchecked")
    assert "rmsd_p1" in row.metrics
    assert "w1_tic1" not in row.metrics
    assert all(value.target is None for value in row.metrics.values())
    assert "own native structure" in " ".join(row.notes)
    # Beads that were built on are simulated and not scored.
    _, member = member_of("homeodomain-1P7I", home)
    narrow = mutant_screening.Member(member.key, 4, member.sequence, member.native, (0, 52))
    ensemble = Ensemble.from_arrays(
        "homeodomain", [member.native[None] + np.float32(0)] * 3, name="toy"
    )
    wild = member.native.copy()
    wild[52:] += 5.0
    bent = mutant_screening.Member(member.key, 4, member.sequence, wild, (0, 52))
    for one in (narrow, bent):
        made = mutant_rows._narrow_metrics(ensemble, one, 1, 20)
        assert made["rmsd_p1"][0].value == pytest.approx(0.0, abs=1e-3)
        assert made["q_native"][0].value > 0.99
        assert made["rmsd_below_2p5"][0].value == 1.0


def test_beads_that_a_model_does_not_cover_are_named(tmp_path):
    toy = load_model(save_toy_model(tmp_path / "model.pt"))
    sequence = registry.system("homeodomain").sequence
    require_beads(toy, sequence)
    without = dict(toy.prior.repulsion)
    del without[registry.bead_vocabulary().letters["W"]]
    poor = NetworkPotential(None, toy.prior.model_copy(update={"repulsion": without}), toy.spec)
    with pytest.raises(ValidationError, match="its prior has no TRP"):
        require_beads(poor, sequence)
    small = GraphNetworkSettings(embedding_dimension=8, num_filters=8, num_layers=1)
    trained = TrainedOn(
        system="chignolin", split_id="block-v1", split_fingerprint=HASH, store_fingerprint=HASH
    )
    spec = PotentialSpec(name="one-protein", trained_on=(trained,))
    network = NetworkPotential(GraphNetwork(small), toy.prior, spec)
    require_beads(network, registry.system("chignolin").sequence)
    with pytest.raises(ValidationError, match="trained on no protein with ALA, PHE"):
        require_beads(network, sequence)


def test_recovery_needs_unfolded_starts_and_unfolding_controls():
    variant = SimpleNamespace(
        key="homeodomain-1P7I", parent="homeodomain", pdb_id="1P7I", sequence="A",
        mutations=(), scored_beads=(0, 54),
    )  # fmt: skip

    def told(shuffled, glycine, unfolded=5, reached=1):
        found = {
            "wild-type": Screened("unfolds", 0.1),
            "shuffled": Screened(shuffled, None),
            "poly-glycine": Screened(glycine, None),
        }
        parent = parent_outcome("homeodomain", found, None)
        run = SimpleNamespace(unfolded_starts=unfolded, reached_native=reached)
        one = variant_outcome(variant, Screened("stays", 0.9), run, None, parent)
        return parent.controls_unfold, one.recovered, one.counts

    assert told("unfolds", "unfolds") == (True, True, True)
    assert told("stays", "unfolds") == (False, True, False)
    assert told("lost", "unfolds") == (None, True, None)
    assert told("failed", "stays") == (False, True, False)
    assert told("unfolds", "unfolds", reached=0) == (True, False, None)
    assert told("unfolds", "unfolds", unfolded=0, reached=0) == (True, None, None)


@pytest.mark.data
def test_the_command_ends_as_it_should(home, short, tmp_path, capsys):
    model = save_toy_model(tmp_path / "model.pt")
    arguments = ["--home", str(home), "--out", str(tmp_path / "run"), "--threads", "1"]
    app(
        ["mutants", str(model), "--system", "homeodomain-1P7I", "--first-stage", "--json",
         *arguments],
        standalone_mode=False,
    )  # fmt: skip
    told = json.loads(capsys.readouterr().out)
    # A prior alone holds no fold, so the wild type unfolds as well.
    assert [one["status"] for one in told["parents"][0]["controls"]] == ["unfolds"] * 3
    assert told["variants"][0]["status"] == "unfolds"
    assert told["recovered"] == 0
    with pytest.raises(UsageError, match="another run"):
        app(["evaluate", str(model), "--mutants", "--seed", "2", *arguments],
            standalone_mode=False)  # fmt: skip
    with pytest.raises(UsageError, match="no variant could be tested"):
        app(["mutants", str(model), "--system", "bbl-1BAL", "--home", str(tmp_path), "--out",
             str(tmp_path / "none")], standalone_mode=False)  # fmt: skip


@pytest.mark.data
def test_a_model_that_covers_nothing_is_an_error(home, short, tmp_path, monkeypatch, prior):
    bonds = {key: value for key, value in prior.bonds.items() if "7" not in key.split("-")}
    poor = prior.model_copy(update={"repulsion": {1: 1.0}, "bonds": bonds})
    use(monkeypatch, NetworkPotential(None, poor, PotentialSpec(name="poor")))
    with pytest.raises(ValidationError, match="no variant could be tested"):
        evaluate(tmp_path / "run", home, "homeodomain-1P7I")


@pytest.mark.data
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (np.linalg.LinAlgError("singular"), "failed"),
        (RuntimeError("no memory"), "failed"),
        (IntegrityError("screening.zarr: damaged"), "missing"),
        (UsageError("screening.zarr: holds another simulation"), "missing"),
    ],
)
def test_one_family_that_fails_does_not_hide_another(
    home, prior, short, tmp_path, monkeypatch, error, status
):
    use(monkeypatch, holder(home, "proteinb", prior, reads_sequence=True))
    whole = mutants.screen

    def broken(potential, parent, *rest, **options):
        if parent == "homeodomain":
            raise error
        return whole(potential, parent, *rest, **options)

    monkeypatch.setattr(mutants, "screen", broken)
    outcome = evaluate(tmp_path / "run", home, "homeodomain-1P7I", "proteinb-1GAB")
    assert [one.status for one in outcome.variants] == [status, "stays"]
    assert {one.status for one in outcome.parents[0].controls} == {status}
    assert str(error) in outcome.variants[0].reason
