"""What the card of a sampler's baseline says of its training."""

from pathlib import Path

from cgbench.config import read_data, read_text, validate
from cgbench.pipeline.cards import NOT_YET_RUN, table
from cgbench.train.kinds import AnyConfig
from cgbench.train.sampler_records import SamplerOutcome

#: What full size was never run here and is expected to cost, beside the card.
EXPECTED_COST = "expected-cost.txt"


def training_block(settings: AnyConfig, home: Path, command: str, hardware: str) -> str:
    """Return the facts of a sampler's training.

    Args:
        settings: Its configuration.
        home: Folder of the baseline.
        command: What trains it.
        hardware: What it was trained on.
    """
    path = home / "results" / "training.json"
    if not path.is_file():
        rows = [("status", NOT_YET_RUN)]
        if (home / EXPECTED_COST).is_file():
            rows.append(("expected cost", read_text(home / EXPECTED_COST).strip()))
        return table(("fact", "value"), rows) + f"\n\n```text\n{command}\n```"
    outcome = validate(SamplerOutcome, read_data(path), path)
    loss = outcome.validation_loss
    told = f"none: {outcome.validation_reason}"
    rows = [
        ("validation loss", told if loss is None else f"{loss:.3f} ({outcome.validation_unit})"),
        ("steps", f"{outcome.steps}, the best {outcome.best_step}"),
        ("parameters", f"{outcome.n_parameters:,}"),
        ("wall time", f"{outcome.seconds:,.0f} s"),
        ("hardware", hardware),
    ]
    return table(("fact", "value"), rows) + f"\n\n```text\n{command}\n```"
