"""Figures of the reference work's analysis, the step that keeps them, and its constants."""

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pydantic
import pytest
from toy_paper import SHAPES, THREE, embedded, hidden, three_state_bundle, three_state_ensemble

from cgbench import registry
from cgbench.config import assets_home, read_model, validate
from cgbench.errors import UsageError, ValidationError
from cgbench.evaluate import Ensemble, read_reference
from cgbench.evaluate.paper import paper_study
from cgbench.evaluate.stored_trajectories import store_trajectories
from cgbench.pipeline.paper import figure_paths, paper_stage
from cgbench.registry import PaperConstant, paper_constants
from cgbench.report.paper_figures import _network, energy_figure, figure_names, paper_figures
from cgbench.report.paper_text import constants_table, paper_markdown
from cgbench.results.paper import PaperAnalysis, PaperTable, PaperTransitions
from cgbench.store import open_store

SVG = "{http://www.w3.org/2000/svg}"
PROTEINS = [system.key for system in registry.systems() if system.published_key is not None]


@cache
def drawn(energy=(0.0, -1.0, -3.0)):
    study = paper_study(three_state_ensemble(n_frames=400, energy=energy)[1], three_state_bundle())
    return study, {figure.name: figure for figure in paper_figures(study)}


def texts(figure):
    root = ElementTree.fromstring(figure.svg)
    return " | ".join("".join(node.itertext()) for node in root.iter(f"{SVG}text"))


def test_every_figure_renders_and_says_where_its_counts_are_from():
    study, figures = drawn()
    assert tuple(figures) == figure_names(study.analysis)
    assert set(figures) == {"free-energy", "trajectory", "energy", "pathways"} | (
        {"secondary-structure"} if study.analysis.elements else set()
    )
    for figure in figures.values():
        assert figure.png.startswith(b"\x89PNG")
        found = texts(figure)
        assert "model: 3 macrostates (chosen here: largest gap between eigenvalues" in found
        assert "200 clusters (chosen here)" in found
        assert figure.title in figure.svg


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("free-energy", ("TIC 1", "TIC 2", "reference at 4 kcal/mol", "free energy (kcal/mol)")),
        ("free-energy", ("native structure (no experimental one)", "model: chain")),
        ("trajectory", ("100 states along time", "RMSD (Å)", "the model's own time")),
        ("energy", ("the native macrostate is that of least energy", "0 (native)")),
        ("pathways", ("(unfolded)", "reference: reactive flux", " %")),
    ],
)
def test_figures_have_their_labels(name, labels):
    found = texts(drawn()[1][name])
    for label in labels:
        assert label in found


def test_the_reference_contour_is_red_in_both_maps_and_the_star_is_there():
    svg = drawn()[1]["free-energy"].svg
    assert svg.lower().count("stroke: #d62728") >= 3
    assert svg.count("fill: #ffffff; stroke: #000000") >= 2


def test_pathways_are_drawn_with_their_percentages():
    study, figures = drawn()
    found = texts(figures["pathways"])
    for path in study.analysis.pathways.pathways:
        states = " → ".join(str(state) for state in path.macrostates)
        assert f"{states}: {path.percentage:.1f} %" in found


def test_labels_of_arrows_that_cross_do_not_meet():
    """Four macrostates: the way through the middle ones crosses the direct one half way."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    rows = [
        SimpleNamespace(index=index, probability=0.25, rmsd_mean=1.0 + index) for index in range(4)
    ]
    net = np.zeros((4, 4))
    net[0, 1], net[1, 2], net[2, 3], net[0, 3] = 1.0, 0.9, 1.0, 0.1
    found = SimpleNamespace(
        net_flux=net, total_flux=1.1, committor=[0.0, 0.1, 0.2, 1.0], pathways=()
    )
    table = SimpleNamespace(macrostates=rows, native=3, label=str)
    figure, axis = plt.subplots()
    _network(axis, table, found)
    places = np.array([text.get_position() for text in axis.texts if "%" in text.get_text()][:4])
    plt.close(figure)
    apart = np.linalg.norm(places[:, None] - places[None, :], axis=-1)
    assert apart[np.triu_indices(len(places), k=1)].min() > 0.15


def test_the_energy_figure_says_no_as_well():
    _, figures = drawn((0.0, -3.0, -2.5))
    assert "the native macrostate is not that of least energy (by 0.5" in texts(figures["energy"])


def test_a_figure_of_unknown_energies_is_refused():
    study, _ = drawn()
    blank = replace(study, analysis=study.analysis.model_copy(update={"energy": None}))
    assert "energy" not in figure_names(blank.analysis)
    with pytest.raises(ValidationError, match="no energies"):
        energy_figure(blank)


def test_published_counts_are_labelled_as_published():
    study, _ = drawn()
    table = study.analysis.table.model_copy(
        update={"macrostates_source": "repository", "macrostates_how": "3, as stated"}
    )
    published = replace(study, analysis=study.analysis.model_copy(update={"table": table}))
    assert "(repository: 3, as stated" in texts(paper_figures(published)[0])


def test_propensities_are_a_map_of_elements_by_macrostate():
    study, _ = drawn()
    elements = {"helix 0–3": 0.25, "strands 4–5 with 8–9": 1.0}
    rows = [
        row.model_copy(update={"propensities": elements})
        for row in study.analysis.table.macrostates
    ]
    analysis = PaperAnalysis.model_validate(
        study.analysis.model_dump()
        | {
            "table": study.analysis.table.model_dump() | {"macrostates": rows},
            "elements": [
                {"name": name, "residues": [(0, 4)], "source": "paper"} for name in elements
            ],
            "element_distance": 2.0,
        }
    )
    figures = {f.name: f for f in paper_figures(replace(study, analysis=analysis))}
    found = texts(figures["secondary-structure"])
    for label in ("helix 0–3", "strands 4–5 with 8–9", "0.25", "1.00", "fraction within 2 Å"):
        assert label in found


def test_a_degenerate_model_is_drawn_with_its_reason(tmp_path):
    frames = embedded(hidden(THREE, 4, 60, 1), SHAPES, 1)
    dead = Ensemble.from_arrays(
        "chignolin-sample", list(frames), frame_interval=2.0, alive_until=[0] * 4
    )
    found = paper_stage(dead, three_state_bundle(), tmp_path)
    assert found.status == "degenerate"
    names = {path.name for path in (tmp_path / "paper" / "figures").iterdir()}
    assert "chignolin-sample-free-energy.svg" in names
    assert "chignolin-sample-energy.svg" not in names
    svg = (tmp_path / "paper" / "figures" / "chignolin-sample-free-energy.svg").read_text()
    assert "degenerate: no frame is alive" in svg


def test_the_step_keeps_what_it_made_and_knows_when_to_redo_it(tmp_path, monkeypatch):
    _, ensemble = three_state_ensemble(n_frames=120, energy=(0.0, -1.0, -3.0))
    calls = []

    def counted(*args, **options):
        calls.append(args)
        return paper_study(*args, **options)

    monkeypatch.setattr("cgbench.pipeline.paper.paper_study", counted)
    first = paper_stage(ensemble, three_state_bundle(), tmp_path)
    again = paper_stage(ensemble, three_state_bundle(), tmp_path)
    assert len(calls) == 1
    assert again == first == read_model(PaperAnalysis, tmp_path / "paper/chignolin-sample.json")
    paths = figure_paths(tmp_path, "chignolin-sample")
    assert len(paths) >= 8
    assert all(path.is_file() for path in paths)
    before = {path: path.read_bytes() for path in paths}
    paths[3].unlink()
    paper_stage(ensemble, three_state_bundle(), tmp_path)
    assert len(calls) == 2
    assert {path: path.read_bytes() for path in paths} == before
    other = replace(ensemble, network_energy=[-values for values in ensemble.network_energy])
    found = paper_stage(other, three_state_bundle(), tmp_path)
    assert len(calls) == 3
    assert not found.energy.native_is_lowest_energy
    blind = replace(ensemble, network_energy=None)
    paper_stage(blind, three_state_bundle(), tmp_path, seed=2)
    paper_stage(blind, three_state_bundle(), tmp_path, seed=2)
    assert len(calls) == 4
    left = {path.name for path in (tmp_path / "paper" / "figures").iterdir()}
    assert "chignolin-sample-energy.svg" not in left
    assert left == {path.name for path in figure_paths(tmp_path, "chignolin-sample")}


@pytest.mark.parametrize("damage", ["{", "{}"])
def test_a_damaged_record_is_made_anew(tmp_path, damage):
    _, ensemble = three_state_ensemble(n_frames=60)
    first = paper_stage(ensemble, three_state_bundle(), tmp_path)
    record = tmp_path / "paper" / "chignolin-sample.json"
    record.write_text(damage)
    assert paper_stage(ensemble, three_state_bundle(), tmp_path) == first
    assert read_model(PaperAnalysis, record) == first


def test_an_interrupted_step_is_done_again(tmp_path, monkeypatch):
    _, ensemble = three_state_ensemble(n_frames=120)

    def interrupted(study):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("cgbench.pipeline.paper.paper_figures", interrupted)
        with pytest.raises(KeyboardInterrupt):
            paper_stage(ensemble, three_state_bundle(), tmp_path)
    assert not (tmp_path / "paper" / "chignolin-sample.json").exists()
    assert paper_stage(ensemble, three_state_bundle(), tmp_path).status in ("ok", "degenerate")


def test_the_embedded_sample_end_to_end(tmp_path):
    assets = assets_home()
    bundle = read_reference(assets / "references" / "v2" / "chignolin-sample.zarr")
    store = open_store(assets / "store" / "chignolin-sample.zarr")
    frames = [np.asarray(trajectory[:]) for trajectory in store_trajectories(store)]
    ensemble = Ensemble.from_arrays("chignolin-sample", frames, frame_interval=1.0, name="MD")
    found = paper_stage(ensemble, bundle, tmp_path)
    assert found.status == "ok"
    table, reference = found.table, found.reference
    for one in (table, reference):
        assert sum(row.probability for row in one.macrostates) == pytest.approx(1.0)
        native = one.macrostates[one.native]
        assert native.rmsd_minimum < 0.5
        assert native.rmsd_mean < 2.0 < one.macrostates[one.unfolded].rmsd_mean
        assert native.gdt_ts_mean > 0.9
    assert table.connected_fraction > 0.9
    assert table.lag_ps == 10.0
    assert found.transitions.n_started_unfolded >= 17
    # The result is part of a file that comes from anywhere: what is written can be read.
    text = (tmp_path / "paper" / "chignolin-sample.json").read_text()
    assert PaperAnalysis.model_validate_json(text) == found
    assert len(text) < 100_000


# --- the constants ---


@pytest.mark.parametrize("key", PROTEINS)
def test_every_constant_has_a_source_and_a_reason_where_it_was_chosen(key):
    found = paper_constants(key)
    for constant in found.constants:
        assert constant.source in ("paper", "repository", "chosen here")
        assert constant.reason or constant.source != "chosen here"
    own = key == "proteing"
    for name in ("macrostates", "clusters", "reference_macrostates"):
        assert (found[name].source == "chosen here") != own
    assert found["macrostates"].value == (4 if own else None)
    assert found.count("clusters") == 200
    assert found.number("msm_lag") == 10.0
    assert found.number("reference_msm_lag") == 10_000.0
    assert found.count("tica_components") == 3
    assert found.count("fes_grid") == 80
    models, fraction = found.count("spread_models"), found.number("spread_fraction")
    assert fraction == pytest.approx(1.0 - 1.0 / models)
    protocol = registry.protocol("paper")
    assert found.number("length") == protocol.length_of(key)
    assert found.number("drop_fraction") == protocol.drop_fraction


def test_the_published_lengths():
    lengths = {key: paper_constants(key).number("length") for key in PROTEINS}
    assert len(lengths) == 12
    assert lengths["chignolin"] == lengths["bba"] == 1560.0
    assert lengths["trpcage"] == lengths["villin"] == 3120.0
    assert lengths["wwdomain"] == lengths["proteing"] == 12_500.0
    assert lengths["lambda"] == 6250.0


def test_the_page_has_the_constants_of_the_registry():
    page = (Path(__file__).parent.parent / "docs" / "paper-protocol.md").read_text("utf-8")
    shown = page.split("<!-- constants -->\n")[1].split("\n<!-- /constants -->")[0]
    assert shown == constants_table()


def test_the_table_of_a_system_says_where_its_macrostates_are_from():
    study, _ = drawn()
    text = paper_markdown(study.analysis, "chignolin-sample")
    assert "3 macrostates (chosen here: largest gap between eigenvalues" in text
    assert "third of the standard error" in text
    for row in study.analysis.table.macrostates:
        assert f"{row.probability:.3f} ± {row.probability_spread.deviation:.3f}" in text
    assert "| clusters | 200 | chosen here |" in text


def test_a_choice_without_a_reason_is_refused():
    with pytest.raises(ValidationError, match="does not say why"):
        validate(
            PaperConstant,
            {"name": "x", "part": "ensemble", "value": 1, "unit": "1", "source": "chosen here"},
            "test",
        )


def test_a_constant_that_is_no_number_is_not_taken_for_one():
    found = paper_constants("chignolin")
    for name in ("macrostates", "native_macrostate"):
        with pytest.raises(ValueError, match="no number"):
            found.number(name)
    with pytest.raises(KeyError):
        found.number("nothing")


def test_an_unknown_system_has_no_constants():
    with pytest.raises(UsageError, match="no such system"):
        paper_constants("nothing")


# --- the result's own checks ---


def test_results_that_contradict_themselves_are_refused():
    study, _ = drawn()
    table = study.analysis.table.model_dump()
    with pytest.raises(pydantic.ValidationError, match="both native and unfolded"):
        PaperTable.model_validate(table | {"unfolded": table["native"]})
    with pytest.raises(pydantic.ValidationError, match="order"):
        PaperTable.model_validate(table | {"macrostates": table["macrostates"][::-1]})
    with pytest.raises(pydantic.ValidationError, match="names no macrostate"):
        PaperTable.model_validate(table | {"native": 7})
    moves = study.analysis.transitions.model_dump()
    with pytest.raises(pydantic.ValidationError, match="than start there"):
        PaperTransitions.model_validate(moves | {"native_from_unfolded": 99})
    with pytest.raises(pydantic.ValidationError, match="says why"):
        PaperAnalysis(status="degenerate")
    with pytest.raises(pydantic.ValidationError, match="has a table"):
        PaperAnalysis(status="ok")


def test_results_survive_their_file():
    analysis = drawn()[0].analysis
    assert PaperAnalysis.model_validate(json.loads(analysis.model_dump_json())) == analysis
    assert "third of the standard error" in analysis.spread_label
