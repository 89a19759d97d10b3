"""The table of all baselines that stands above their cards: data, seeds, and what has been run."""

import json
from pathlib import Path
from typing import Final

from cgbench import registry
from cgbench.config import read_text
from cgbench.pipeline.cards import NOT_YET_RUN, table
from cgbench.registry.zoo import Choice
from cgbench.train.config import TrainingConfig
from cgbench.train.kinds import AnyConfig

#: Systems that are named; of more the number is told.
_MOST_NAMED: Final = 2


def index_table(baselines: dict[Path, AnyConfig], folder: Path) -> str:
    """Return one row for each baseline.

    Args:
        baselines: Configurations by the folder of their baseline.
        folder: The folder above them.
    """
    rows = []
    for home, settings in baselines.items():
        name = home.relative_to(folder).as_posix()
        rows.append(
            (
                f"[{name}]({name}/README.md)",
                f"`{settings.kind}`",
                _data(settings),
                _seeds(settings, home / "results"),
                _status(home / "results"),
            )
        )
    return table(("baseline", "kind", "trained on", "seeds", "results"), rows)


def earlier_choice(name: str) -> Choice | None:
    """Return how weights were chosen, where only the zoo says that there was a choice."""
    return next((model.choice for model in registry.zoo() if model.name == name), None)


def _data(settings: AnyConfig) -> str:
    systems = tuple(settings.systems)
    named = ", ".join(systems) if len(systems) <= _MOST_NAMED else f"{len(systems)} proteins"
    # A sampler of structures has domains, and no systems of the registry.
    return named or "structures"


def _seeds(settings: AnyConfig, results: Path) -> str:
    selection = results / "selection.json"
    if selection.is_file():
        trained = len(json.loads(read_text(selection))["candidates"])
        return f"{trained}, the best by short simulations"
    if (results / "training.json").is_file():
        chosen = earlier_choice(settings.name)
        return "1" if chosen is None else f"best of {chosen.best_of_n} runs"
    planned = isinstance(settings, TrainingConfig) and settings.selection is not None
    return f"{registry.baseline_settings().seeds if planned else 1} planned"


def _status(results: Path) -> str:
    """Return the protocols that a result is there of."""
    scored = []
    for path in sorted(results.glob("*.json")):
        content = json.loads(read_text(path))
        if content.get("format") == "cgbench-result":
            protocol = content["protocol"]
            scored.append("samples" if protocol is None else f"`{protocol['id']}`")
    if scored:
        return ", ".join(scored)
    return "trained, not scored" if (results / "training.json").is_file() else NOT_YET_RUN
