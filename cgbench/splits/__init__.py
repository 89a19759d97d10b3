"""Splits: which frames train, validate and test; made by rule, checked, fingerprinted."""

from cgbench.splits.check import check_split, check_store, find_problems
from cgbench.splits.identity import (
    Relation,
    relation,
    relations,
    sequence_identities,
    sequence_identity,
)
from cgbench.splits.make import (
    BLOCK_SPLIT,
    make_block_split,
    make_leave_one_out_split,
    make_random_split,
    make_split,
)
from cgbench.splits.model import (
    FrameIndex,
    FrameIndexMetadata,
    Split,
    SplitRule,
    read_split,
    write_split,
)
from cgbench.splits.settings import settings_file, split_settings

__all__ = [
    "BLOCK_SPLIT",
    "FrameIndex",
    "FrameIndexMetadata",
    "Relation",
    "Split",
    "SplitRule",
    "check_split",
    "check_store",
    "find_problems",
    "make_block_split",
    "make_leave_one_out_split",
    "make_random_split",
    "make_split",
    "read_split",
    "relation",
    "relations",
    "sequence_identities",
    "sequence_identity",
    "settings_file",
    "split_settings",
    "write_split",
]
