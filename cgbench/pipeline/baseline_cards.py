"""Model cards: hand-written prose around blocks that follow from what a baseline's runs wrote.

A card is ``<folder>/<baseline>/README.md``, beside its ``config.yaml`` and a folder ``results``
with ``training.json`` and ``provenance.json`` of the training, ``selection.json`` of a choice among
several seeds, and one result for each protocol.
What stands between ``<!-- facts: NAME -->`` and ``<!-- end of facts -->`` is written by this
module. Cards of shipped weights lie beside these as well, so that the package shows them anywhere.
"""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from cgbench import registry
from cgbench.config import read_data, read_model, read_text, validate, write_atomic
from cgbench.errors import CgbenchError
from cgbench.models import load_model, model_hash
from cgbench.models.zoo import find_weights
from cgbench.pipeline.baseline_index import earlier_choice, index_table
from cgbench.pipeline.cards import NOT_YET_RUN, fill, table
from cgbench.pipeline.choice import with_choice
from cgbench.pipeline.sampler_cards import training_block
from cgbench.pipeline.selection import SelectionOutcome
from cgbench.provenance import Provenance
from cgbench.results import MetricValue, Result, SystemResult, read_result
from cgbench.train import TrainingConfig
from cgbench.train.kinds import SAMPLERS, AnyConfig, read_config
from cgbench.train.records import TrainingOutcome

CARD_NAME: Final = "README.md"
#: Metrics of one status that are named; of more the number is told.
_MOST_NAMED: Final = 4
#: Shipped weights, below the folder of the repository.
SHIPPED: Final = Path("cgbench/assets/models")
#: Measured training rates, below the folder of the repository.
RATES: Final = Path("benchmarks/results/training.json")

_START: Final = """# {name}

{description}

## Model

<!-- facts: model -->
<!-- end of facts -->

## Training

<!-- facts: training -->
<!-- end of facts -->

## Results and failure modes

<!-- facts: results -->
<!-- end of facts -->
"""


def update_baseline_cards(
    folder: Path, *, rates: Path | None = None, check: bool = False
) -> list[Path]:
    """Write the blocks of every baseline's card anew; return the cards that were not up to date.

    The table of all baselines, in the page above the cards, is one of them. A baseline
    without a card gets one.

    Args:
        folder: Folder with the baselines.
        rates: Measured training rates, for what a training is expected to cost.
        check: Change nothing.

    Raises:
        ValidationError: A card lacks a block, or a file beside it is not what it should be.
    """
    measured = _rates(folder.parent / RATES if rates is None else rates)
    baselines = {path.parent: read_config(path) for path in sorted(folder.rglob("config.yaml"))}
    texts: dict[Path, str] = {}
    for home, settings in baselines.items():
        path = home / CARD_NAME
        start = _START.format(name=settings.name, description=settings.description)
        old = read_text(path) if path.is_file() else start
        texts[path] = fill(old, _blocks(settings, home, folder.name, measured), path)
        shipped = folder.parent / SHIPPED / settings.name
        if (shipped / "model.pt").is_file():
            texts[shipped / CARD_NAME] = texts[path]
    page = folder / CARD_NAME
    if page.is_file():
        texts[page] = fill(read_text(page), {"index": index_table(baselines, folder)}, page)
    changed = [path for path, text in texts.items() if _differs(path, text)]
    for path in () if check else changed:
        write_atomic(path, texts[path])
    return changed


def _differs(path: Path, text: str) -> bool:
    return not path.is_file() or read_text(path) != text


def _blocks(
    settings: AnyConfig, home: Path, folder: str, rates: dict[int, float]
) -> dict[str, str]:
    return {
        "model": _model(settings),
        "training": _training(settings, home, folder, rates),
        "results": _results(home),
    }


def _model(settings: AnyConfig) -> str:
    rows = [("kind", f"`{settings.kind}`"), ("licence", settings.licence)]
    try:
        path = find_weights(settings.name)
    except CgbenchError:
        trains = settings.kind in SAMPLERS
        weights = "not shipped; the command below makes `sampler.pt`" if trains else NOT_YET_RUN
        return table(("fact", "value"), [*rows, ("weights", weights)])
    spec = with_choice(load_model(path).spec, model_hash(path))
    for part in spec.trained_on:
        rows += [
            (
                "trained on",
                f"`{part.system}`, part `{part.part}` of split `{part.split_id}` "
                f"(`{part.split_fingerprint[:19]}…`)",
            ),
            (f"data of `{part.system}`", f"`{part.store_fingerprint}`"),
        ]
    rows += [
        ("force map", f"`{spec.force_map}`" if spec.force_map else "none"),
        ("parameters", f"{spec.n_parameters or 0:,}"),
        ("seeds", ", ".join(map(str, spec.seeds)) or "none"),
        ("weights", f'`cgbench.load("{settings.name}")`'),
        ("hash", f"`{model_hash(path)}`"),
    ]
    if spec.best_of_n is not None:
        rows.append(("best of", f"{spec.best_of_n} runs"))
    return table(("fact", "value"), rows)


def _training(settings: AnyConfig, home: Path, folder: str, rates: dict[int, float]) -> str:
    command = f"cgbench train {folder}/{home.relative_to(_base(home, settings.name))}/config.yaml"
    if settings.kind in SAMPLERS:
        hardware = _hardware(home / "results" / "provenance.json")
        return training_block(settings, home, command, hardware)
    path = home / "results" / "training.json"
    selection = _selection(home / "results" / "selection.json")
    if selection is not None:
        command += f" --seeds {len(selection.candidates)} --select"
    if not path.is_file():
        rows = [("status", NOT_YET_RUN)]
        if isinstance(settings, TrainingConfig):
            rows += _expected(settings, rates)
            if settings.selection is not None:
                planned = registry.baseline_settings().seeds
                rows.append(("seeds", f"{planned}, one of which short simulations choose"))
                command += f" --seeds {planned} --select"
        return table(("fact", "value"), rows) + f"\n\n```text\n{command}\n```"
    outcome = validate(TrainingOutcome, read_data(path), path)
    rows = []
    if settings.kind == "go-model":
        rows.append(
            ("force error", f"{outcome.validation_loss:,.0f} (kcal/mol/Å)²; not fitted to forces")
        )
    elif outcome.validation_variance > 0:
        rows.append(
            (
                "validation loss",
                f"{outcome.validation_loss:.2f} (kcal/mol/Å)², of {outcome.validation_variance:.2f}"
                f" under the prior alone: {100 * outcome.explained:.1f} % explained",
            )
        )
    if isinstance(settings, TrainingConfig):
        rows.append(("epochs", f"{outcome.epochs}, the best {outcome.best_epoch}"))
    rows += _spent(outcome, selection, settings.name)
    rows.append(("hardware", _hardware(home / "results" / "provenance.json")))
    parts = [table(("fact", "value"), rows)]
    if selection is not None:
        parts.append(_choice(selection))
    return "\n\n".join([*parts, f"```text\n{command}\n```"])


def _spent(
    outcome: TrainingOutcome, selection: SelectionOutcome | None, name: str
) -> list[tuple[str, str]]:
    """Return how many seeds were trained, and what the one that is kept and all of them took."""
    runs = () if selection is None else selection.candidates
    seconds = f"{outcome.seconds:,.0f} s"
    known = [one.training_seconds for one in runs if one.training_seconds is not None]
    if len(runs) > 1 and len(known) == len(runs):
        seconds += f"; {math.fsum(known):,.0f} s of all {len(runs)} seeds"
    chosen = earlier_choice(name)
    trained = str(max(1, len(runs)))
    if chosen is not None:
        trained = f"{chosen.best_of_n} runs, of which this one was chosen; the times are its own"
    processor = outcome.cpu_seconds
    gpu = outcome.gpu_hours
    return [
        ("seeds trained", trained),
        ("wall time", seconds),
        ("processor time", "not recorded" if processor is None else f"{processor:,.0f} s"),
        ("GPU hours", "none" if gpu is None else f"{gpu:.2f}"),
    ]


def _selection(path: Path) -> SelectionOutcome | None:
    return read_model(SelectionOutcome, path) if path.is_file() else None


def _choice(selection: SelectionOutcome) -> str:
    """Return what every seed came to, and how far they differ."""
    rows = [
        (
            f"{one.seed}" + (", chosen" if one.seed == selection.chosen else ""),
            "–" if one.validation_loss is None else f"{one.validation_loss:.2f}",
            one.status if one.metric is None else f"{one.metric:.3g}",
        )
        for one in selection.candidates
    ]
    spreads = [
        (
            "mean ± standard deviation",
            *(
                f"{found.mean:.4g} ± {found.standard_deviation or 0.0:.2g}"
                for name in ("validation_loss", selection.metric or "")
                if (found := selection.between_seed.get(name)) is not None
            ),
        )
    ]
    heading = ("seed", "validation loss, (kcal/mol/Å)²", f"`{selection.metric}`")
    chosen_on = "; ".join(selection.references.values())
    told = f"Chosen by short simulations (`{selection.protocol}`) scored against {chosen_on}."
    return table(heading, [*rows, *(one for one in spreads if len(one) == len(heading))]) + (
        f"\n\n{told}"
    )


def _base(home: Path, name: str) -> Path:
    return home.parents[len(Path(name).parts) - 1]


def _hardware(path: Path) -> str:
    if not path.is_file():
        return "not recorded"
    found = read_model(Provenance, path).hardware
    accelerator = found.accelerator or f"{found.cores} cores"
    return f"{found.processor}, {accelerator}"


def _rates(path: Path) -> dict[int, float]:
    """Return measured training rates in frames per second on one core, by number of beads."""
    if not path.is_file():
        return {}
    content = json.loads(read_text(path))
    return {
        int(item["n_beads"]): float(item["steps_per_second"]) * int(item["frames"])
        for item in content["measurements"]
        if item["path"] == "fused"
    }


def _expected(settings: AnyConfig, rates: dict[int, float]) -> list[tuple[str, str]]:
    """Return what an epoch is expected to cost, from the measured rates of two chain lengths."""
    if len(rates) < 2:
        return []
    (short, fast), (long, slow) = min(rates.items()), max(rates.items())
    power = math.log(slow / fast) / math.log(long / short)
    rows = []
    for key in settings.systems:
        rate = fast * (registry.system(key).n_beads / short) ** power
        rows.append(
            (
                f"expected cost, `{key}`",
                f"{1e6 / rate / 60:.0f} min on one core for each million training frames and epoch",
            )
        )
    return rows


def _results(home: Path) -> str:
    results = list(_read_results(home / "results"))
    if not results:
        return NOT_YET_RUN
    parts = []
    for result in results:
        for system in result.systems:
            ranked = [
                (spec, system.metrics[spec.id])
                for spec in registry.metrics()
                if spec.ranked and spec.id in system.metrics
            ]
            protocol = "none" if result.protocol is None else result.protocol.id
            parts.append(
                f"Protocol `{protocol}`, system `{system.system}`, status {system.status}"
                f"{_against(result, system)}:"
            )
            rows = [(f"`{spec.id}`", _value(value), spec.unit or "") for spec, value in ranked]
            parts.append(table(("metric", "value and 95 % interval", "unit"), rows))
            parts.append(_failures(system))
    return "\n\n".join(parts)


def _read_results(folder: Path) -> Iterable[Result]:
    for path in sorted(folder.glob("*.json")):
        if json.loads(read_text(path)).get("format") == "cgbench-result":
            yield read_result(path)


def _value(value: MetricValue) -> str:
    if value.value is None:
        return value.status
    text = f"{value.value:.3g}"
    if value.lo is not None and value.hi is not None:
        text += f" [{value.lo:.3g}, {value.hi:.3g}]"
    return text if value.status == "ok" else f"{text} ({value.status})"


def _against(result: Result, system: SystemResult) -> str:
    """Return what a row was scored against, its track and what was found of leaks."""
    parts = []
    if (reference := result.reference.fingerprints.get(system.system)) is not None:
        parts.append(f", reference `{reference[:19]}…`")
    if system.track is not None:
        parts.append(f", track `{system.track}`")
    if system.leak is not None:
        parts.append(f", leaks: {system.leak.status}")
    return "".join(parts)


def _failures(system: SystemResult) -> str:
    """Return what went wrong, in sentences; a model without any says so."""
    found = [f"gate `{name}` failed" for name, gate in system.gates.items() if gate == "failed"]
    for status in ("failed", "void"):
        metrics = [f"`{key}`" for key, item in system.metrics.items() if item.status == status]
        told = ", ".join(metrics) if len(metrics) <= _MOST_NAMED else f"{len(metrics)} metrics"
        found += [f"{told} {status}"] if metrics else []
    if system.dead_fraction:
        found.append(f"{100 * system.dead_fraction:.2g} % of the frames after a broken one")
    if system.simulation_converged is False:
        found.append(f"not converged: {system.simulation_converged_reason}")
    return "Failures: " + ("; ".join(found) if found else "none found by the suite") + "."
