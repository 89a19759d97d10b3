"""Opens the pull request of a submission with the programs git and gh, when asked to."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from cgbench.errors import UsageError
from cgbench.leaderboard.submission import Submitted, branch_of, title_of

#: A push over a slow line.
_TIMEOUT_S = 300.0


def open_pull_request(done: Submitted, folder: Path) -> str:
    """Commit a submission on a branch of its own, push it and open the pull request.

    Only the two files of the submission are committed. Every argument is the identifier of a model,
    a day or a path made of them; no shell reads them.

    Args:
        done: The submission.
        folder: The leaderboard folder, inside a clone of the repository.

    Returns:
        What gh says, the address of the pull request.

    Raises:
        UsageError: git or gh is not installed, the folder is in no clone, or one of them failed.
    """
    for program in ("git", "gh"):
        if shutil.which(program) is None:
            raise UsageError(
                f"--pr needs the program {program}, which is not installed",
                fix="do the steps that 'cgbench submit' prints without --pr",
            )
    paths = [str(path.resolve()) for path in (done.record_path, done.submission_path)]
    title = title_of(done)
    _run(["git", "switch", "--create", branch_of(done)], folder)
    _run(["git", "add", "--", *paths], folder)
    _run(["git", "commit", "--message", title, "--", *paths], folder)
    _run(["git", "push", "--set-upstream", "origin", "HEAD"], folder)
    body = "Written and checked by cgbench submit."
    return _run(["gh", "pr", "create", "--title", title, "--body", body], folder).strip()


def _run(command: Sequence[str], folder: Path) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - a list of arguments made here
            command, cwd=folder, check=False, capture_output=True, text=True, timeout=_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise UsageError(f"'{' '.join(command[:2])}' takes too long") from error
    if done.returncode != 0:
        raise UsageError(
            f"'{' '.join(command[:3])}' failed",
            found=(done.stderr or done.stdout).strip()[:500],
            fix="the files are written; do the remaining steps by hand",
        )
    return done.stdout
