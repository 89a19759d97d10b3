"""Submissions, their verification, and the ranking of models: data that anyone may send."""

from cgbench.leaderboard.records import (
    TRACKS,
    Author,
    ModelRecord,
    ReferenceRow,
    ReferenceRows,
    Submission,
    TrajectoriesSource,
    VerificationRecord,
)

__all__ = [
    "TRACKS",
    "Author",
    "ModelRecord",
    "ReferenceRow",
    "ReferenceRows",
    "Submission",
    "TrajectoriesSource",
    "VerificationRecord",
]
