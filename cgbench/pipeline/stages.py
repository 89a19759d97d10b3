"""Steps of a run that are skipped when they are there already with the same fingerprint."""

from collections.abc import Callable
from pathlib import Path

from cgbench import config
from cgbench.config import Frozen


class _Stage(Frozen):
    """What a finished step was made from."""

    fingerprint: str


def run_stage(
    folder: Path, name: str, inputs: object, action: Callable[[], None], *, force: bool = False
) -> str:
    """Run an action once for given inputs and remember that in ``stages/<name>.json``.

    The record is written only after the action has returned, so an interrupted step is run
    again; resumable actions then continue from what they kept. Steps name the fingerprints of
    the steps before them in their inputs, so that a change is passed on.

    Returns:
        The fingerprint of the inputs.
    """
    record = folder / "stages" / f"{name}.json"
    fingerprint = config.fingerprint({"stage": name, "inputs": inputs})
    if not force and record.is_file():
        found = config.read_model(_Stage, record)
        if found.fingerprint == fingerprint:
            return fingerprint
    record.unlink(missing_ok=True)
    action()
    config.write_model(record, _Stage(fingerprint=fingerprint))
    return fingerprint
