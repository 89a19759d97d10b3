"""Resumable, verified downloads: ranges, mirrors, lock file, disk check, safe extraction."""

from cgbench.fetch.archive import Limits, extract
from cgbench.fetch.download import fetch, fetch_all
from cgbench.fetch.lock import DownloadLock, LockEntry
from cgbench.fetch.probe import Probe, probe, probe_all
from cgbench.fetch.ranges import RangeReader
from cgbench.fetch.settings import Fetched, Pinned, Request, Settings

__all__ = [
    "DownloadLock",
    "Fetched",
    "Limits",
    "LockEntry",
    "Pinned",
    "Probe",
    "RangeReader",
    "Request",
    "Settings",
    "extract",
    "fetch",
    "fetch_all",
    "probe",
    "probe_all",
]
