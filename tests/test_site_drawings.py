"""What the leaderboard's site draws: plots, chains, and figures of submitted runs."""

import math
import re
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_rows import bundle, scored, trajectories
from toy_site import Elements, board, row

from cgbench.errors import UsageError
from cgbench.leaderboard.rows import Score
from cgbench.leaderboard.site import build_site, details, plots
from cgbench.leaderboard.site.details import read_details
from cgbench.leaderboard.site.markup import strict_svg
from cgbench.leaderboard.site.protein_pages import AtHand
from cgbench.pipeline.results import ScoredRun, write_run
from cgbench.results.schema import ReferenceIdentity


@given(
    st.lists(
        st.tuples(st.floats(1e-3, 1e6), st.floats(0.0, 1.0)), min_size=1, max_size=30, unique=True
    ),
    st.sampled_from(["more", "less"]),
)
def test_front_is_what_no_model_beats(pairs, better) -> None:
    points = [plots.Point(cost, value) for cost, value in pairs]

    def beats(a: plots.Point, b: plots.Point) -> bool:
        cheaper = a.cost >= b.cost if better == "more" else a.cost <= b.cost
        return cheaper and a.score >= b.score and (a.cost, a.score) != (b.cost, b.score)

    expected = {point for point in points if not any(beats(other, point) for other in points)}
    assert set(plots.front(points, better)) == expected


def test_plots_draw_only_rows_that_have_both_numbers() -> None:
    assert plots.pareto([None, None], {}, label="x", better="more") is None
    drawn = str(plots.pareto([None, plots.Point(2.0, 0.5)], {}, label="x", better="less"))
    assert re.findall(r'data-i="(\d+)"', drawn) == ["1"]


def test_level_lines_that_lie_together_share_their_words() -> None:
    names = {"floor": 0.9, "prior": 0.02, "chain": 0.0}
    drawn = str(plots.pareto([plots.Point(2.0, 0.5)], names, label="x", better="less"))
    assert drawn.count('class="beside"') == 2
    assert ">prior, chain<" in drawn
    assert ">1.0<" in drawn
    low = str(plots.pareto([plots.Point(2.0, 0.05)], {}, label="x", better="less"))
    assert ">0.2<" in low
    assert ">1.0<" not in low


def test_intervals_are_drawn_to_scale() -> None:
    def places(score: Score) -> list[float]:
        drawn = str(plots.interval(score))
        return [float(one) for one in re.findall(r'd="M([\d.]+) [\d.]+H([\d.]+)"', drawn)[-1]]

    whole = places(Score(value=0.5, lo=0.0, hi=1.0))
    half = places(Score(value=0.25, lo=0.0, hi=0.5))
    assert whole[0] == half[0]
    assert math.isclose(whole[1] - whole[0], 2 * (half[1] - half[0]), abs_tol=0.2)


def test_a_chain_is_drawn_alike_however_it_lies() -> None:
    turn = np.linspace(0, 3 * np.pi, 12)
    helix = np.stack([5 * np.cos(turn), 3 * np.sin(turn), 2.0 * np.arange(12)], axis=1)
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    rotation *= np.sign(np.linalg.det(rotation))

    def spread(svg: str) -> tuple[float, float]:
        points = np.array(re.findall(r"(-?[\d.]+) (-?[\d.]+)", svg), dtype=float)[1:]
        return tuple(np.ptp(points, axis=0).round(0))

    straight, turned = (str(plots.chain(one)) for one in (helix, helix @ rotation + 40.0))
    assert spread(straight) == spread(turned)
    assert "style" not in straight


def test_figures_keep_their_looks_without_inline_styles() -> None:
    svg = (
        '<svg viewBox="0 0 1 1"><style type="text/css">*{stroke-linejoin: round}</style>'
        '<path d="M0 0" style="fill: none; stroke: #ff0000; stroke-dasharray: 1,2"/>'
        "<text style=\"font: 9.5px 'sans-serif'; text-anchor: middle\">a</text></svg>"
    )
    found = Elements(str(strict_svg(svg))).found
    assert "style" not in dict(found)
    assert all("style" not in attributes for _, attributes in found)
    path = next(attributes for tag, attributes in found if tag == "path")
    assert (path["fill"], path["stroke"], path["stroke-dasharray"]) == ("none", "#ff0000", "1,2")
    text = next(attributes for tag, attributes in found if tag == "text")
    assert (text["font-size"], text["text-anchor"]) == ("9.5", "middle")


def run_folder(folder: Path):
    """Write the run folder of a toy row, and return the model's row on the board."""
    drawn = scored(trajectories())
    key = drawn.result.system
    base = row(2, systems=(key,))
    result = base.submission.result.model_copy(
        update={
            "systems": (drawn.result,),
            "reference": ReferenceIdentity(
                version="v2", fingerprints={key: bundle().fingerprint}
            ),
            "metrics_versions": dict.fromkeys(drawn.result.metrics, 1),
        }
    )  # fmt: skip
    write_run(folder / base.id, ScoredRun(result, {key: drawn}))
    submission = base.submission.model_copy(update={"result": result})
    return base.model_copy(update={"submission": submission}), key


def test_figures_are_drawn_from_the_run_of_the_submitted_result(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(details, "kept_rows", lambda *_, **__: [])
    shown, key = run_folder(tmp_path)
    hand = {key: AtHand(bundle(), bundle().native, "")}
    found = read_details(shown, tmp_path, hand)
    assert [item.system for item in found.shown] == [key]
    figures = [figure for group in found.shown[0].groups for figure in group.figures]
    assert any("surface" in figure.key for figure in figures)
    for figure in figures:
        assert not [one for _, one in Elements(str(figure.svg)).found if "style" in one]
    # Another result, another reference, or no folder: nothing is drawn, and it says why.
    assert not read_details(shown, None, hand).note
    assert "not at hand" in read_details(row(3), tmp_path, hand).note
    other = {key: AtHand(replace(bundle(), fingerprint="sha256:" + 64 * "0"), None, "")}
    assert "1 systems are not drawn" in read_details(shown, tmp_path, other).note
    changed = shown.submission.result.model_copy(update={"wall_time_s": 1.0})
    stale = shown.model_copy(
        update={"submission": shown.submission.model_copy(update={"result": changed})}
    )
    # The same model simulated again is drawn, and said to be that; another model's run is not.
    again = read_details(stale, tmp_path, hand)
    assert (len(again.shown), again.note) == (1, details.REPEATED)
    model = changed.model.model_copy(update={"hash": "sha256:" + 64 * "1"})
    other_model = changed.model_copy(update={"model": model})
    foreign = shown.model_copy(
        update={"submission": shown.submission.model_copy(update={"result": other_model})}
    )
    assert "another result" in read_details(foreign, tmp_path, hand).note
    (tmp_path / shown.id / "result.json").write_text("{")
    assert "cannot be read" in read_details(shown, tmp_path, hand).note


def test_details_that_are_not_there_are_refused(tmp_path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        build_site(board(0), tmp_path / "site", details=tmp_path / "nowhere")


def test_the_picture_of_the_data_flow_is_the_one_that_its_script_draws() -> None:
    folder = Path(__file__).parent.parent / "docs"
    script = runpy.run_path(str(folder / "draw_architecture.py"))
    text = script["draw"]()
    assert text == (folder / "architecture.svg").read_text(encoding="utf-8")
    names = {box[0] for box in script["BOXES"]}
    assert {end for arrow in script["ARROWS"] for end in arrow[:2]} == names
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
