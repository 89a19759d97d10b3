"""What the overview shows of a board of many models, and of the board that is checked in."""

import re
from collections import Counter
from pathlib import Path

import pytest
from toy_site import SYSTEMS, board, row

from cgbench import registry
from cgbench.leaderboard.board import ranked, read_board
from cgbench.leaderboard.records import fingerprint_of
from cgbench.leaderboard.site.build import overview
from cgbench.leaderboard.site.comparison import comparison_data
from cgbench.leaderboard.site.markup import Templates
from cgbench.leaderboard.site.model_pages import model_page, rows_of_models
from cgbench.leaderboard.site.protein_pages import AtHand
from cgbench.results import Result

ROOT = Path(__file__).parent.parent


def page_of(found) -> str:
    nothing = {system.key: AtHand(None, None, "") for system in registry.systems()}
    shown = overview(found, rows_of_models(found), nothing)
    return Templates().render("index", "index.html", shown)


@pytest.fixture(scope="module")
def many():
    return board(24)


@pytest.fixture(scope="module")
def page(many) -> str:
    return page_of(many)


def lines(page: str, table: str = "table-p1") -> list[str]:
    body = page[page.index(f'id="{table}"') :]
    return re.findall(r"<tr class=.*?</tr>", body[: body.index("</table>")], re.DOTALL)


def test_tied_models_share_a_rank(page) -> None:
    models = [line for line in lines(page) if 'class="model"' in line]
    ranks = [int(re.search(r"<td>(\d+)</td>", line)[1]) for line in models]
    assert ranks == sorted(ranks)
    shared = [rank for rank, number in Counter(ranks).items() if number > 1]
    assert shared
    # A rank is a number of better models, so that it is never above the place in the table.
    assert all(rank <= place for place, rank in enumerate(ranks, start=1))
    assert "and 1 tied" in page


def test_failures_are_flagged_and_penalised(many, page) -> None:
    rows = [one for one in many.tracks["protein-specific"] if "failed" in one.flags]
    assert rows
    for one in rows:
        lost = [cell for cell in one.systems.values() if cell.status == "failed"]
        assert {cell.composite.value for cell in lost} == {0.0}
        kept = [cell.composite.value for cell in one.systems.values() if cell.composite]
        assert one.score.value == pytest.approx(sum(kept) / len(SYSTEMS))
        (line,) = [text for text in lines(page) if f"models/{one.id}.html" in text]
        assert ">failures<" in line


def test_superseded_and_withdrawn_models_stay_without_rank(many, page) -> None:
    past = [line for line in lines(page) if 'class="past"' in line]
    assert len(past) == 2
    assert all('<td class="none" title="' in line for line in past)
    assert [word for word in ("superseded", "withdrawn") if word in "".join(past)] == [
        "superseded", "withdrawn",
    ]  # fmt: skip
    models = rows_of_models(many)
    for rows in models.values():
        if rows[0].model.status != "active":
            shown = model_page(rows, many, models, set(SYSTEMS))
            text = Templates().render(
                "model", "models/a/b.html", {**shown, "details": (), "detail_note": ""}
            )
            assert "A better one took its place." in text


def test_quality_stands_against_speed_and_against_training_cost(many, page) -> None:
    section = page[
        page.index('id="track-protein-specific"') : page.index('id="track-multi-protein"')
    ]
    assert re.findall(r"<strong>(Quality against [a-z ]+)\.</strong>", section) == [
        "Quality against speed", "Quality against training cost",
    ]  # fmt: skip
    plots = re.findall(r'<svg class="pareto".*?</svg>', section, re.DOTALL)
    rows = [one for one in many.tracks["protein-specific"] if not one.reference and one.cost]
    for drawn, cost in zip(plots, ("ns_per_day", "training_seconds"), strict=True):
        dots = set(map(int, re.findall(r'data-i="(\d+)"', drawn)))
        assert len(dots) == sum(getattr(one.cost, cost) is not None for one in rows)
        assert "noise floor" in drawn
        assert 'class="front"' in drawn


def test_a_result_of_an_unregistered_reference_has_its_values_and_no_score() -> None:
    shown = row(1, systems=("chignolin",), registered=False)
    found = board(6)
    tracks = {**found.tracks, "protein-specific": (*ranked([shown]), *found.tracks["sampler"])}
    found = found.model_copy(update={"tracks": tracks})
    (line,) = [text for text in lines(page_of(found)) if f"models/{shown.id}.html" in text]
    assert ">reference not registered<" in line
    assert "<b>" not in line
    models = rows_of_models(found)
    context = model_page(models[shown.id], found, models, set(SYSTEMS))
    text = Templates().render(
        "model", "models/a/b.html", {**context, "details": (), "detail_note": ""}
    )
    assert "not registered yet" in text
    (entry,) = [one for one in comparison_data(found)["models"] if one["id"] == shown.id]
    assert entry["score"] is None


def test_the_board_that_is_checked_in_shows_its_model_as_verified() -> None:
    """A change of the result's format must not void what was recorded of results before it."""
    found = read_board(ROOT / "leaderboard")
    model = found.row("torchmd-gn/chignolin-sample-v2")
    assert (model.rank, model.level) == (1, "reproduced")
    assert "✓✓ reproduced" in page_of(found)
    assert any("noise floor itself scores 0.33" in note for note in found.notes)


def test_a_result_keeps_its_fingerprint_when_the_format_gains_an_optional_field() -> None:
    found = read_board(ROOT / "leaderboard").row("torchmd-gn/chignolin-sample-v2")
    result = found.submission.result
    spare = result.model_dump(mode="json", exclude_defaults=True)
    whole = result.model_dump(mode="json")
    assert spare != whole
    prints = {fingerprint_of(Result.model_validate(one)) for one in (spare, whole)}
    assert prints == {fingerprint_of(result)}
    other = result.model_copy(update={"wall_time_s": 1.0})
    assert fingerprint_of(other) not in prints
