"""A leaderboard of made-up models for its site, ranked by the code that ranks real ones."""

import datetime
import random
from collections.abc import Sequence
from html.parser import HTMLParser
from unittest import mock

from cgbench import registry
from cgbench.leaderboard import model_rows
from cgbench.leaderboard.board import ranked
from cgbench.leaderboard.model_rows import system_cell
from cgbench.leaderboard.records import (
    TRACKS,
    Author,
    ModelRecord,
    Submission,
    VerificationRecord,
)
from cgbench.leaderboard.rows import Board, BoardRow
from cgbench.leaderboard.scoring import mean_score, scored_metrics, uncounted_metrics
from cgbench.provenance import Hardware, Provenance
from cgbench.results import MetricValue, Result, SystemResult
from cgbench.results.schema import Cost, ModelIdentity, ProtocolIdentity, ReferenceIdentity

#: Text that would run, were it not escaped; in fields that allow any text.
HOSTILE = (
    """</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1>'"&{{7*7}}"""
)
SYSTEMS = ("chignolin", "trpcage", "bba", "wwdomain", "villin", "ntl9", "bbl", "proteinb",
           "homeodomain", "proteing", "a3d", "lambda")  # fmt: skip
SAMPLE = "chignolin-sample-v2"
_DIGEST = "sha256:" + 64 * "0"
_FIRST = ("graph", "equivariant", "tabulated", "delta", "diffusive", "message-passing", "spline")
_SECOND = ("network", "potential", "field", "flow", "ensemble", "model")
_SHARES = {"protein-specific": 0.6, "multi-protein": 0.3, "sampler": 0.1}
_PAST = {3: "superseded", 5: "withdrawn"}


class Elements(HTMLParser):
    """Every element of a page with its attributes, and the text of scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs) -> None:
        self.found.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def _values(rng: random.Random, quality: float) -> dict[str, MetricValue]:
    """Return metrics of about a quality between 0 (bad) and 1 (good)."""
    found = {}
    for metric in scored_metrics():
        score = min(1.0, max(0.0, rng.gauss(quality, 0.08)))
        far = metric.bad + (metric.good - metric.bad) * score
        width = 0.12 * abs(metric.bad - metric.good)
        target = 0.4 if metric.direction == "target" else None
        value = far if target is None else target + far
        found[metric.metric] = MetricValue(
            value=value, lo=value - width, hi=value + width, n_eff=32.0, target=target
        )
    found["rmsd_p1"] = MetricValue(value=3.0 - 2.0 * quality, lo=2.0 - 2.0 * quality, hi=4.0)
    found["replicas_alive"] = MetricValue(value=1.0)
    found["tm"] = MetricValue(status="n/a", note="not used below 28 beads")
    return found


def system_result(
    rng: random.Random, system: str, quality: float, status: str = "ok", text: str = ""
) -> SystemResult:
    if status == "missing":
        return SystemResult(system=system, status="missing", reason=text or "no store at hand")
    return SystemResult(
        system=system, status=status, metrics=_values(rng, quality if status == "ok" else 0.0),
        reason=None if status == "ok" else text or "every frame is lost",
        gates={"handedness": "passed"}, n_trajectories=32, n_frames=3200, converged=True,
        weights_status="ok", notes=(text,) if text else (),
    )  # fmt: skip


def result(
    rng: random.Random, systems: Sequence[SystemResult], cost: Cost | None, text: str = ""
) -> Result:
    used = {metric for item in systems for metric in item.metrics}
    return Result(
        suite_version="0.1.0",
        model=ModelIdentity(
            name="toy", hash=f"sha256:{rng.getrandbits(256):064x}", kind="potential",
            spec={"description": text or "A made-up network.", "cutoff": 12.0},
        ),
        protocol=ProtocolIdentity(id="standard", version=1),
        reference=ReferenceIdentity(
            version="v2", fingerprints={item.system: _DIGEST for item in systems}
        ),
        metrics_versions=dict.fromkeys(used, 1),
        seeds={"simulation": 1},
        provenance=Provenance(
            suite_version="0.1.0", created="2026-01-01T00:00:00+00:00", python="3.11",
            platform="Linux", packages={"numpy": "2.0"}, seeds={"simulation": 1},
            hardware=Hardware(processor="toy", cores=2, memory_bytes=None, accelerator=None),
            command=["cgbench", "evaluate", "model.pt"],
        ),
        cost=cost,
        systems=tuple(systems),
    )  # fmt: skip


def row(
    index: int,
    *,
    track: str = "protein-specific",
    systems: Sequence[str] = SYSTEMS,
    text: str = "",
    status: str = "active",
    registered: bool = True,
) -> BoardRow:
    """Return an unranked row of a model that follows from its number alone."""
    rng = random.Random(index)
    quality = rng.uniform(0.05, 0.9)
    made = [
        system_result(rng, key, quality, _status(rng), text if key == systems[0] else "")
        for key in systems
    ]
    cost = None
    if rng.random() > 0.1:
        cost = Cost(
            ns_per_day=10 ** rng.uniform(0, 3.4), steps_per_second=rng.uniform(10, 900),
            n_replicas=32, hardware=text or "made-up processor",
            n_parameters=rng.randrange(10**4, 10**7), training_seconds=10 ** rng.uniform(2, 6.5),
        )  # fmt: skip
    title = f"{rng.choice(_FIRST)} {rng.choice(_SECOND)} {index}".capitalize()
    record = ModelRecord(
        model=f"{title.split()[0].lower()}/model-{index}",
        title=title,
        authors=(Author(name="A. Author", affiliation="Institute of Examples"),),
        contact="author@example.org",
        url="https://example.org/model",
        citation="Author, A. A made-up model. 2026.",
        licence="MIT",
        description="A made-up model, which is here to see how the page looks.",
        track=track,
        kind="sampler" if track == "sampler" else "potential",
        status=status,
        superseded_by="graph/other" if status == "superseded" else None,
        reason=None if status == "active" else "A better one took its place.",
        training_data="Made-up simulations of every protein.",
        uses_native_structure=rng.random() < 0.1,
        date=datetime.date(2026, 1, 1),
    )
    if text:
        # As if it had passed the checks of records, which the site does not rely on.
        fields = ("title", "description", "training_data", "citation", "licence", "contact")
        update = {**dict.fromkeys(fields, text), "url": f"javascript:alert(1)//{text}"}
        record = record.model_copy(update=update)
    submission = Submission(
        model=record.model,
        submitted=datetime.date(2026, 1, 1) + datetime.timedelta(days=index),
        result=result(rng, made, cost, text),
    )
    if index % 3 == 0:
        verification = VerificationRecord(
            level="reproduced" if index % 6 == 0 else "trajectories_checked",
            by="Somebody else", date=datetime.date(2026, 6, 1), suite_version="0.1.0",
            result=submission.result_fingerprint, systems=tuple(systems), n_metrics=200,
            largest_difference=0.2,
        )  # fmt: skip
        submission = submission.model_copy(update={"verification": verification})
    # As if somebody had registered a reference of every protein.
    missing = () if registered else tuple(systems)
    with mock.patch.object(model_rows, "unregistered_systems", return_value=missing):
        return model_rows.model_row(record, [submission])


def _status(rng: random.Random) -> str:
    return rng.choices(("ok", "failed", "missing"), (0.94, 0.04, 0.02))[0]


def reference_rows(group: str, systems: Sequence[str]) -> list[BoardRow]:
    """Return the rows beside the models, and one of published numbers."""
    rows = []
    for name, title, quality in (
        ("md_split_half", "Noise floor", 0.93),
        ("prior_only", "Prior only", 0.22),
        ("native_constant", "Native constant", 0.12),
        ("ideal_chain", "Ideal chain", 0.04),
    ):
        rng = random.Random(name)
        cells = {key: system_cell(system_result(rng, key, quality), True, {}) for key in systems}
        rows.append(
            BoardRow(
                id=name, title=title, reference=True, group=group, systems=cells,
                score=mean_score([cell.composite for cell in cells.values() if cell.composite]),
                description=f"What {title.lower()} scores.",
            )
        )  # fmt: skip
    facts = tuple(fact for fact in registry.published_facts() if fact.value is not None)
    rows.append(
        BoardRow(
            id="published-1", title="Reference work: protein-specific models", reference=True,
            group=group, facts=facts, description="Published, not re-scored.",
        )
    )  # fmt: skip
    return rows


def board(n_models: int = 12, text: str = "", notes: Sequence[str] = ()) -> Board:
    """Return a board: most models in the first track, the others in two more."""
    tracks: dict[str, tuple[BoardRow, ...]] = {}
    start = 0
    beside = reference_rows("published", SYSTEMS)
    for track in TRACKS:
        number = round(n_models * _SHARES.get(track, 0.0))
        rows = [
            row(index, track=track, text=text, status=_PAST.get(index, "active"))
            for index in range(start, start + number)
        ]
        start += number
        tracks[track] = (*ranked(rows), *beside)
    return Board(
        suite_version="0.1.0",
        tracks=tracks,
        scored_metrics=scored_metrics(),
        uncounted=uncounted_metrics(),
        systems=SYSTEMS,
        notes=tuple(notes),
    )


def crowded(found: Board, n_models: int) -> Board:
    """Return a board with the rows of another repeated under new names, many at little cost."""
    tracks = dict(found.tracks)
    rows = [row for members in tracks.values() for row in members if not row.reference]
    first = found.tracks[TRACKS[0]]
    more = [
        rows[index % len(rows)].model_copy(
            update={"id": f"repeated/model-number-{index}", "title": f"A repeated one {index}"}
        )
        for index in range(n_models - len(rows))
    ]
    ordered = sorted(
        (row for row in (*first, *more) if not row.reference),
        key=lambda row: 1.0 if row.score is None else -row.score.value,
    )
    tracks[TRACKS[0]] = (*ordered, *(row for row in first if row.reference))
    return found.model_copy(update={"tracks": tracks})
