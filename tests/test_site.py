"""The leaderboard's site as files: what is written, that nothing in it runs, and its size."""

import json
import re
import urllib.request
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_site import HOSTILE, SAMPLE, Elements, board, crowded, reference_rows, row
from typer.testing import CliRunner

from cgbench import registry
from cgbench.cli.main import app
from cgbench.errors import UsageError, ValidationError
from cgbench.leaderboard.rows import Board, MutantCount
from cgbench.leaderboard.site import MANIFEST, build_site, make_server, plots, words
from cgbench.leaderboard.site.build import overview
from cgbench.leaderboard.site.comparison import comparison_data
from cgbench.leaderboard.site.markup import Templates
from cgbench.leaderboard.site.model_pages import rows_of_models
from cgbench.leaderboard.site.protein_pages import AtHand
from cgbench.leaderboard.site.serve import HEADERS
from cgbench.leaderboard.site.tables import in_order, track_tables

#: What the first page may weigh with hundreds of models.
BUDGET = 300_000


@pytest.fixture(scope="module")
def small() -> Board:
    return board(10)


@pytest.fixture(scope="module")
def site(small, tmp_path_factory) -> Path:
    return build_site(small, tmp_path_factory.mktemp("site") / "site").folder


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Path:
    found = board(4, text=HOSTILE, notes=(HOSTILE,))
    return build_site(found, tmp_path_factory.mktemp("hostile") / "site").folder


def pages(site: Path) -> dict[str, str]:
    return {
        path.relative_to(site).as_posix(): path.read_text() for path in sorted(site.rglob("*.html"))
    }


def test_every_model_and_protein_has_a_page(site, small) -> None:
    names = set(pages(site))
    assert {"index.html", "compare.html", "metrics.html"} <= names
    assert {f"models/{model}.html" for model in rows_of_models(small)} <= names
    assert {f"proteins/{system.key}.html" for system in registry.systems()} <= names
    manifest = json.loads((site / MANIFEST).read_text())
    written = {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}
    assert set(manifest["files"]) == written - {MANIFEST}


def test_every_link_leads_somewhere(site) -> None:
    found = pages(site)
    identifiers = {
        name: {attributes.get("id") for _, attributes in Elements(page).found}
        for name, page in found.items()
    }
    n_links = 0
    for name, page in found.items():
        for attributes in Elements(page).of("a"):
            address = attributes["href"] or ""
            if address.startswith("https://"):
                assert attributes["rel"] == "noopener noreferrer nofollow"
                continue
            path, _, anchor = address.partition("#")
            target = (site / name).parent.joinpath(path).resolve() if path else site / name
            assert target.is_file(), (name, address)
            n_links += 1
            if anchor and "=" not in anchor:
                key = target.resolve().relative_to(site.resolve()).as_posix()
                assert anchor in identifiers[key], (name, address)
    assert n_links > 200


@pytest.mark.parametrize("made", ["site", "hostile"])
def test_nothing_runs_but_the_site_s_own_scripts(made, request) -> None:
    for name, page in pages(request.getfixturevalue(made)).items():
        elements = Elements(page)
        policies = [
            item["content"]
            for item in elements.of("meta")
            if item.get("http-equiv") == "Content-Security-Policy"
        ]
        assert len(policies) == 1, name
        policy = policies[0]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        assert "base-uri 'none'; form-action 'none'" in policy
        running = [item for item in elements.of("script") if item.get("type") is None]
        sources = next(part for part in policy.split(";") if "script-src" in part)
        assert len(running) == sources.count("'sha256-") > 0
        for tag, attributes in elements.found:
            assert not [one for one in attributes if one.startswith("on")], (name, tag)
            assert "style" not in attributes, (name, tag)
            for source in ("src", "srcset", "data", "action", "formaction", "xlink:href"):
                value = attributes.get(source) or ""
                assert value.startswith(("data:", "#")) or not value, (name, tag, value)
        assert not {"iframe", "object", "embed", "base"} & {tag for tag, _ in elements.found}
        for link in elements.of("link"):
            assert link["href"] == "data:,"


def test_text_of_anyone_is_shown_and_never_markup(hostile) -> None:
    clean = HOSTILE.split("<img")[1].split(">")[0]
    shown = 0
    for name, page in pages(hostile).items():
        assert "<img" not in page, name
        assert "window.hacked=1</script>" not in page, name
        assert not [item for item in Elements(page).of("a") if "script:" in (item["href"] or "")]
        shown += "{{7*7}}" in page and clean in page
        for data in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.S):
            assert "<" not in data
            json.loads(data)
    assert shown > 4


def test_a_model_s_name_cannot_leave_its_folder(tmp_path) -> None:
    found = board(0)
    sly = row(1).model_copy(update={"id": "../../sly"})
    tracks = {**found.tracks, "protein-specific": (sly,)}
    with pytest.raises(ValidationError, match="no name of a model"):
        build_site(found.model_copy(update={"tracks": tracks}), tmp_path / "a" / "b")
    assert not list(tmp_path.glob("sly*"))


@given(st.text(max_size=80))
def test_any_text_survives_in_data_and_drawings(text) -> None:
    drawn = plots.pareto(
        [plots.Point(1.0, 0.5)], {text: 0.3}, label=text, better="more", ticks={1.0: text}
    )
    elements = Elements(str(drawn))
    assert {tag for tag, _ in elements.found} == {"svg", "g", "path", "text", "circle"}


def test_first_view_is_light_with_two_hundred_models(small) -> None:
    many = crowded(small, 200)
    models = rows_of_models(many)
    assert len(models) == 200
    nothing = {system.key: AtHand(None, None, "") for system in registry.systems()}
    page = Templates().render("index", "index.html", overview(many, models, nothing))
    assert len(page.encode()) < BUDGET
    assert len(re.findall(r'<tr class="(?:model|past)"', page)) == 200


def test_a_site_is_built_again_in_its_place(small, tmp_path) -> None:
    out = tmp_path / "site"
    build_site(small, out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    fewer = small.model_copy(
        update={"tracks": {track: rows[-5:] for track, rows in small.tracks.items()}}
    )
    build_site(fewer, out)
    assert not list(out.glob("models/*/*.html"))
    (out / "CNAME").write_text("example.org")
    build_site(small, out)
    after = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert after.pop(out / "CNAME") == b"example.org"
    assert before == after


def test_a_folder_of_other_things_is_left_alone(small, tmp_path) -> None:
    (tmp_path / "thesis.html").write_text("years of work")
    with pytest.raises(UsageError, match="not a site"):
        build_site(small, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.html"]


def test_a_manifest_cannot_name_files_elsewhere(tmp_path) -> None:
    victim = tmp_path / "victim.html"
    victim.write_text("mine")
    out = tmp_path / "site"
    out.mkdir()
    files = ["../victim.html", str(victim), "notes.txt"]
    (out / "notes.txt").write_text("mine too")
    (out / MANIFEST).write_text(
        json.dumps({"format": "cgbench-site", "version": 1, "files": files})
    )
    build_site(board(0), out)
    assert victim.read_text() == "mine"
    assert (out / "notes.txt").read_text() == "mine too"


def test_an_empty_board_says_so(tmp_path) -> None:
    found = board(0)
    empty = found.model_copy(update={"tracks": dict.fromkeys(found.tracks, ())})
    out = build_site(empty, tmp_path / "site").folder
    page = (out / "index.html").read_text()
    assert page.count("No model has been submitted to this track yet.") == 5
    assert "No models, none recomputed by others" in page
    assert "None has been computed yet" in (out / "metrics.html").read_text()


def test_reference_rows_stand_where_their_scores_are(small) -> None:
    table = track_tables(small)[0].groups[0]
    scores = [line.row.score.value for line in table.lines if line.row.rank is not None]
    assert scores == sorted(scores, reverse=True)
    names = [line.row.id for line in table.lines]
    assert names[0] == "md_split_half"
    assert names[-1] == "published-1"
    chain = names.index("ideal_chain")
    ranked = [index for index, line in enumerate(table.lines) if line.row.rank is not None]
    assert chain > max(ranked)
    middle = names.index("prior_only")
    value = table.lines[middle].row.score.value
    for index in ranked:
        assert (table.lines[index].row.score.value > value) == (index < middle)


def test_models_without_rank_keep_their_place_behind_the_others() -> None:
    rows = [row(1), row(2).model_copy(update={"score": None})]
    found = in_order([*rows, *reference_rows("published", ("chignolin",))])
    assert [one.id for one in found if not one.reference] == [one.id for one in rows]


def test_recovered_variants_have_their_column(small) -> None:
    count = MutantCount(recovered=4, tested=9, total=11)
    shown = row(7, track="mutants", systems=("bbl-1BAL",)).model_copy(update={"mutants": count})
    found = small.model_copy(update={"tracks": {"mutants": (shown,)}})
    nothing = {system.key: AtHand(None, None, "") for system in registry.systems()}
    context = overview(found, rows_of_models(found), nothing)
    page = Templates().render("index", "index.html", context)
    assert "Recovered" in page
    assert '<td data-value="4">4 of 11</td>' in page


def test_groups_of_other_systems_have_their_own_tables(small) -> None:
    other = row(40, systems=(SAMPLE,)).model_copy(update={"group": f"{SAMPLE} · demo@1"})
    beside = reference_rows(SAMPLE, (SAMPLE,))
    first = (*small.tracks["protein-specific"], other, *beside)
    found = small.model_copy(
        update={"tracks": {**small.tracks, "protein-specific": first, "mutants": tuple(beside)}}
    )
    tables = {track.key: track for track in track_tables(found)}
    groups = tables["protein-specific"].groups
    assert [group.title for group in groups] == ["published · standard@1", f"{SAMPLE} · demo@1"]
    assert sum(line.row.reference for line in groups[1].lines) == len(beside)
    assert groups[1].systems == [SAMPLE]
    # Reference rows that stand beside models are not shown once more.
    assert "references" not in tables
    assert tables["mutants"].groups == []


def test_the_comparison_has_what_both_models_were_scored_by(small) -> None:
    data = comparison_data(small)
    assert len(data["models"]) == 10
    order = [item[0] for item in data["metrics"]]
    target = data["targets"]["chignolin"][order.index("dG_fold")]
    assert target == pytest.approx(0.4)
    rows = rows_of_models(small)
    for model in data["models"]:
        cell = rows[model["id"]][0].systems["chignolin"]
        if cell.status == "ok":
            shown = model["systems"]["chignolin"][1][order.index("w1_tic1")]
            assert shown[0] == pytest.approx(cell.metrics["w1_tic1"].value, rel=5e-3)
    assert data["floor"]["chignolin"][order.index("w1_tic1")] is not None


@pytest.mark.parametrize(
    ("seconds", "text"), [(12.0, "12 s"), (375.0, "6.25 min"), (7200.0, "2 h"), (172800.0, "2 d")]
)
def test_times_are_in_the_largest_unit(seconds, text) -> None:
    assert words.duration(seconds) == text
    assert words.amount(294565) == "295 k"
    assert words.duration(None) == words.amount(None) == "–"


def test_the_server_gives_pages_and_nothing_else(site) -> None:
    with make_server(site) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            base = f"http://127.0.0.1:{server.server_address[1]}"
            with urllib.request.urlopen(f"{base}/") as answer:
                assert answer.read() == (site / "index.html").read_bytes()
                assert {name: answer.headers[name] for name in HEADERS} == HEADERS
            for path in ("/models/", "/../secret", "/%2e%2e/%2e%2e/etc/passwd"):
                with pytest.raises(urllib.error.HTTPError, match="404"):
                    urllib.request.urlopen(base + path)
        finally:
            server.shutdown()
            thread.join()


def test_only_a_site_is_served(tmp_path) -> None:
    with pytest.raises(UsageError, match="not a site"):
        make_server(tmp_path)


def test_the_verb_builds_a_site_of_a_folder(tmp_path) -> None:
    folder = tmp_path / "leaderboard"
    for name in ("models", "submissions", "reference_rows"):
        (folder / name).mkdir(parents=True)
    out = tmp_path / "site"
    done = CliRunner().invoke(
        app, ["leaderboard", "build", "--board", str(folder), "--out", str(out), "--json"]
    )
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["models"] == 0
    assert found["proteins"] == len(registry.systems())
    page = (out / "index.html").read_text()
    assert "Reference work" in page
    assert "not re-scored" in page
