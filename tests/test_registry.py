"""The registry: complete, consistent, frozen, fast, and helpful about wrong names."""

import subprocess
import sys

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgbench import registry
from cgbench.errors import UsageError, ValidationError
from cgbench.testing.strategies import sequences

PUBLISHED = [system for system in registry.systems() if system.published_key is not None]
by_key = pytest.mark.parametrize("system", PUBLISHED, ids=lambda system: system.key)

METRIC_IDS = [
    "w1_tic1", "w1_tic2", "fes_rmse", "fes_mae", "fes_rmse_paper", "js_2d", "kl_2d", "coverage",
    "precision", "rg_w1", "end_to_end_w1", "bond_w1", "angle_js", "dihedral_js", "contact_rmse",
    "pair_distance_js", "q_w1", "rmsd_w1", "native_population", "dG_fold", "macro_pop",
    "rmsd_p1", "rmsd_native", "rmsd_below_2p5", "gdt_ts", "gdt_ha", "tm", "gdt_ts_native",
    "q_native", "clash_rate", "bond_violation_rate", "handedness", "replicas_alive",
    "force_mse", "force_l1", "bioemu_fes_mae", "bioemu_coverage", "two_for_one_tic_js",
    "two_for_one_pair_distance_js", "novelty",
]  # fmt: skip


def test_twelve_proteins_in_order_of_size_and_the_samples() -> None:
    assert [s.key for s in PUBLISHED] == [
        "chignolin", "trpcage", "bba", "wwdomain", "villin", "ntl9",
        "bbl", "proteinb", "homeodomain", "proteing", "a3d", "lambda",
    ]  # fmt: skip
    assert [s.n_beads for s in PUBLISHED] == [10, 20, 28, 34, 35, 39, 47, 47, 54, 56, 73, 80]
    assert [s.key for s in registry.systems() if s.embedded] == [
        "chignolin-sample",
        "chignolin-sample-v2",
    ]


def test_the_sample_has_its_own_constants() -> None:
    sample = registry.system("chignolin-sample")
    analysis, split = sample.analysis, sample.split
    assert (sample.frame_interval, sample.temperature, sample.licence) == (1.0, 350.0, "MIT")
    assert (analysis.tica_lag_ps, analysis.msm_lag_ps) == (20.0, 10.0)
    assert (analysis.n_microstates, analysis.n_macrostates) == (100, 4)
    assert (split.unit, split.train, split.val, split.test) == ("trajectory", 0.6, 0.1, 0.3)
    assert sample.native.file == "native/chignolin-sample.pdb"
    assert sample.default_force_map == "optimal"
    assert sample.force_map_consistent["slice"] == "no"


@by_key
def test_published_proteins_share_the_constants_of_the_reference_work(
    system: registry.System,
) -> None:
    assert (system.frame_interval, system.temperature) == (100.0, 350.0)
    # The lag is 20 frames; no part of the split is closer to another than one trajectory.
    assert system.analysis.tica_lag_ps == 20 * system.frame_interval
    assert system.split.unit == "block"
    assert system.split.gap_frames * system.frame_interval >= 100_000
    assert system.analysis.n_macrostates == (4 if system.key == "proteing" else None)
    assert system.licence is None
    assert "licence" in system.reasons


def test_norleucine_has_a_type_of_its_own_and_the_priors_of_leucine() -> None:
    vocabulary = registry.bead_vocabulary()
    assert vocabulary.names["NLE"] == vocabulary.letters["X"] == 17
    assert vocabulary.psf_types[17] == vocabulary.psf_types[vocabulary.names["LEU"]]
    assert vocabulary.names["HSD"] == vocabulary.names["HSE"] == vocabulary.names["HIS"] == 11
    assert 18 not in vocabulary.psf_types


@given(sequences())
def test_sequences_and_types_go_round(sequence: str) -> None:
    vocabulary = registry.bead_vocabulary()
    assert vocabulary.sequence_of_types(vocabulary.types(sequence)) == sequence


@pytest.mark.parametrize(
    "call",
    [
        lambda v: v.types("YYBP"),
        lambda v: v.sequence(["TYR", "TYR", "ASX"]),
        lambda v: v.sequence_of_types([4, 4, 18]),
    ],
    ids=["letter", "residue", "number"],
)
def test_an_unknown_bead_is_named_with_its_position(call: object) -> None:
    assert callable(call)
    with pytest.raises(ValidationError, match="position 3"):
        call(registry.bead_vocabulary())


def test_protocols() -> None:
    assert [p.id for p in registry.protocols()] == [
        "demo", "smoke", "standard", "paper", "paper-300", "paper-250",
        "selection", "mutants", "replica-exchange",
    ]  # fmt: skip
    demo = registry.protocol("demo")
    assert (demo.n_replicas, demo.n_steps("chignolin-sample"), demo.steps_per_output) == (
        32, 10000, 25,
    )  # fmt: skip
    assert registry.protocol("standard").n_steps("lambda") == 125_000
    paper = registry.protocol("paper")
    assert (paper.steps_per_output, paper.timestep) == (100, 0.001)
    assert paper.n_steps("bba") == 1_560_000
    assert paper.n_steps("lambda") == 6_250_000
    for temperature in (300.0, 250.0):
        cold = registry.protocol(f"paper-{temperature:g}").model_dump()
        same = paper.model_dump() | {
            name: cold[name] for name in ("id", "description", "temperature")
        }
        assert (cold["temperature"], cold) == (temperature, same)
    for protocol in registry.protocols():
        assert protocol.bead_mass == registry.constants().bead_mass
        assert protocol.drop_fraction == registry.constants().drop_fraction
        for key in protocol.lengths_per_system or {}:
            registry.system(key)
        for system in registry.systems():
            kept = protocol.length_of(system.key) * (1 - protocol.drop_fraction)
            assert protocol.model_msm_lag < kept / 2


def test_a_protocol_with_a_broken_step_is_refused() -> None:
    fields = registry.protocol("demo").model_dump()
    with pytest.raises(pydantic.ValidationError, match="multiple of timestep"):
        registry.Protocol.model_validate(fields | {"timestep": 0.003})
    with pytest.raises(pydantic.ValidationError, match="multiple of output_interval"):
        registry.Protocol.model_validate(fields | {"length": 20.05})


def test_metrics() -> None:
    metrics = {metric.id: metric for metric in registry.metrics()}
    assert list(metrics) == METRIC_IDS
    assert [m.id for m in metrics.values() if m.primary] == ["w1_tic1", "w1_tic2", "fes_rmse"]
    assert metrics["native_population"].direction == "target"
    assert metrics["fes_rmse"].versioned_id == "fes_rmse@1"
    for metric in metrics.values():
        assert not metric.ranked or metric.group == "thermodynamics"
        assert not (metric.ranked and metric.optional)
        assert "reference" in metric.needs or not metric.ranked
    # Shown beside one another or in a figure, or there for numbers published elsewhere.
    assert {
        m.id for m in metrics.values() if m.group == "thermodynamics" and not m.ranked
    } - {m.id for m in metrics.values() if m.optional} == {
        "fes_rmse_paper", "coverage", "precision",
    }  # fmt: skip
    constants = registry.constants()
    worst = constants.fes_cutoff + constants.fes_clip
    assert metrics["fes_rmse"].penalty == metrics["fes_mae"].penalty == worst
    assert metrics["dG_fold"].penalty == worst
    assert metrics["macro_pop"].penalty == constants.fes_cutoff
    assert metrics["bond_w1"].penalty == constants.bond_maximum - constants.bond_minimum


def test_constants_are_those_of_the_definitions() -> None:
    constants = registry.constants()
    assert (constants.fes_grid_size, constants.fes_cutoff, constants.fes_clip) == (80, 4.0, 1.0)
    assert (constants.contact_beta, constants.contact_lambda) == (5.0, 1.2)
    assert (constants.contact_cutoff, constants.contact_separation) == (10.0, 4)
    assert (constants.bond_minimum, constants.bond_maximum) == (2.5, 5.5)
    assert (constants.minimum_events, constants.n_resamples) == (10, 200)
    assert constants.unfolded_q < constants.folded_q


def test_published_facts_name_what_they_are_about() -> None:
    keys = {s.key for s in registry.systems()} | {m.key for m in registry.mutants()}
    for fact in registry.published_facts():
        assert fact.system is None or fact.system in keys
        assert "Majewski" in fact.source
    values = {
        (f.system, f.comparison, f.value)
        for f in registry.published_facts()
        if f.quantity == "mean RMSD of the native macrostate"
    }
    assert values == {
        ("chignolin", "=", 0.7), ("wwdomain", "<", 2.5), ("ntl9", "<", 2.5),
        ("proteinb", "=", 5.5), ("lambda", "=", 4.2),
    }  # fmt: skip


def test_splits() -> None:
    ids = [split.id for split in registry.splits()]
    assert ids[:2] == ["block-v1", "random-85-5-10"]
    assert ids[2:] == [f"lopo-{system.key}" for system in PUBLISHED]
    assert registry.split("lopo-lambda").left_out == "lambda"
    assert registry.split("random-85-5-10").fractions == {"train": 0.85, "val": 0.05, "test": 0.1}


@pytest.mark.parametrize(
    ("lookup", "wrong", "closest"),
    [
        (registry.system, "chignoline", "chignolin"),
        (registry.system, "cln", "chignolin"),
        (registry.system, "Lambda", "lambda"),
        (registry.mutant, "1P7I", "homeodomain-1P7I"),
        (registry.protocol, "standart", "standard"),
        (registry.metric, "w1", "w1_tic1"),
        (registry.split, "block", "block-v1"),
    ],
)
def test_an_unknown_key_names_the_closest(lookup: object, wrong: str, closest: str) -> None:
    assert callable(lookup)
    with pytest.raises(UsageError) as caught:
        lookup(wrong)
    assert caught.value.exit_code == 2
    assert wrong in caught.value.what
    assert f"did you mean {closest}" in str(caught.value.fix)


def test_an_unknown_key_without_a_neighbour_lists_all() -> None:
    with pytest.raises(UsageError, match="trpcage") as caught:
        registry.system("¤¤¤¤")
    assert caught.value.fix is None


@given(st.text(max_size=30))
def test_any_other_text_is_a_usage_error(key: str) -> None:
    if key in {system.key for system in registry.systems()}:
        assert registry.system(key).key == key
    else:
        with pytest.raises(UsageError):
            registry.system(key)


def test_the_sample_is_no_fallback_for_the_published_protein() -> None:
    assert registry.system("chignolin").embedded is False
    with pytest.raises(UsageError):
        registry.system("sample")


def test_entries_are_frozen_and_read_once() -> None:
    assert registry.system("chignolin") is registry.system("chignolin")
    with pytest.raises(pydantic.ValidationError):
        registry.system("chignolin").temperature = 300.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"licence": None}, "needs a reason"),
        ({"n_beads": 11}, "disagree"),
        ({"default_force_map": "mean"}, "default_force_map"),
        ({"force_map_consistent": {"slice": "no"}}, "every force map"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_inconsistent_systems_are_refused(change: dict[str, object], message: str) -> None:
    fields = registry.system("chignolin-sample").model_dump()
    with pytest.raises(pydantic.ValidationError, match=message):
        registry.System.model_validate(fields | change)


@pytest.mark.parametrize(
    ("model", "entry", "change", "message"),
    [
        (registry.MetricSpec, registry.metric("rmsd_p1"), {"primary": True}, "is ranked"),
        (registry.MetricSpec, registry.metric("rg_w1"), {"penalty": None}, "has a penalty"),
        (registry.MetricSpec, registry.metric("rg_w1"), {"good": None}, "together"),
        (registry.Mutant, registry.mutant("bbl-1BAL"), {"reason": None}, "needs a reason"),
        (registry.Mutant, registry.mutant("bbl-1BAL"), {"parent": "bba"}, "key must be"),
        (registry.PublishedFact, registry.published_facts()[0], {"value": None}, "needs a reason"),
        (registry.SplitSettings, registry.system("bba").split, {"test": 0.2}, "add up"),
        (registry.AnalysisSettings, registry.system("bba").analysis, {"source": {}}, "source"),
    ],
)
def test_inconsistent_entries_are_refused(
    model: type[pydantic.BaseModel],
    entry: pydantic.BaseModel,
    change: dict[str, object],
    message: str,
) -> None:
    assert model.model_validate(entry.model_dump()) == entry
    with pytest.raises(pydantic.ValidationError, match=message):
        model.model_validate(entry.model_dump() | change)


def test_loading_is_fast_and_pulls_in_nothing_heavy() -> None:
    code = """
import sys, time
import cgbench.config
start = time.process_time()
from cgbench import registry
registry.systems(), registry.mutants(), registry.protocols(), registry.metrics()
registry.splits(), registry.published_facts(), registry.constants()
heavy = {"numpy", "scipy", "torch", "pandas", "zarr"} & set(sys.modules)
assert not heavy, heavy
print(time.process_time() - start)
"""
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(3)
    ]
    # Measured at 20 ms; the bound leaves room for slower machines.
    assert min(times) < 0.1
