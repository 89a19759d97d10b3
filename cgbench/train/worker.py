"""One more process of a run that another one started: ``python -m cgbench.train.worker OUT``."""

import argparse
import sys
from pathlib import Path

from cgbench import config
from cgbench.errors import CgbenchError


def main(arguments: list[str] | None = None) -> int:
    """Train as one of several processes; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m cgbench.train.worker")
    parser.add_argument("out", type=Path)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--checkpoint-minutes", type=float)
    options = parser.parse_args(arguments)
    from cgbench.train.config import TrainingConfig
    from cgbench.train.run import train

    try:
        train(
            config.read_model(TrainingConfig, options.out / "config.yaml"),
            options.out,
            home=options.home,
            resume=True,
            checkpoint_minutes=options.checkpoint_minutes,
        )
    except CgbenchError as error:
        sys.stderr.write(f"error: {error.message}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
