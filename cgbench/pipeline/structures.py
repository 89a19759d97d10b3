"""From a CATH list and a folder of entries to a split of structures that a sampler trains on."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from cgbench import registry
from cgbench.config import write_atomic, write_model
from cgbench.errors import UsageError, ValidationError
from cgbench.ingest.domains import SHORTEST, Reasons, find_files, read_domains_of
from cgbench.progress import Progress, silent
from cgbench.splits.cath import CLUSTERS, Domain, Segment, list_hash, read_boundaries, read_domains
from cgbench.splits.cath_split import (
    Clustering,
    StructureSplit,
    code_text,
    divide,
)
from cgbench.splits.cath_structures import (
    SPLIT_FILE,
    STRUCTURES_FILE,
    Structure,
    StructureSet,
    write_structures,
)

#: Every domain of the list that is not in the split, with the reason.
LEFT_OUT_FILE = "left-out.tsv"
_REPEATED = "another domain of its cluster of sequences was taken"


def make_structure_split(
    cath: Path,
    folder: Path,
    out: Path,
    *,
    boundaries: Path | None = None,
    seed: int = 1,
    share: float | None = None,
    representatives: Clustering = "S35",
    shortest: int = SHORTEST,
    progress: Progress = silent,
) -> StructureSplit:
    """Divide the domains at hand at every level of CATH and write the split with its structures.

    Args:
        cath: A list of domains (CLF 2.0).
        folder: Where PDB or mmCIF files of entries are, or files of domains.
        out: Folder to write ``split.json``, ``structures.npz`` and ``left-out.tsv`` to.
        boundaries: Segments of domains (CDF 2.0); without it only whole chains and files of
            domains can be used.
        seed: Of the order in which nodes are held out.
        share: Share that each level holds out; the registry's if None.
        representatives: Clusters of sequences of which one domain each is taken.
        shortest: Least number of residues.
        progress: Told of domains done.

    Raises:
        UsageError: A file or the folder does not exist.
        IntegrityError: A list is damaged.
        ValidationError: No domain can be used.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder", expected="a folder with PDB or mmCIF files")
    wanted = registry.sampler_constants().structures.share if share is None else share
    if not 0.0 < wanted < 0.5:
        raise UsageError("--share: out of range", expected="above 0 and below 0.5", found=wanted)
    domains = read_domains(cath)
    known = {} if boundaries is None else read_boundaries(boundaries)
    structures, reasons = _structures(domains, folder, known, representatives, shortest, progress)
    if not structures:
        told = "; ".join(f"{n} × {why}" for why, n in Counter(reasons.values()).most_common(5))
        raise ValidationError(
            f"{cath}: no domain of the list can be used with {folder}",
            expected="files called as 1abc.pdb, pdb1abc.ent, 1abc.cif or 1abcA01",
            found=told,
            fix=None if boundaries else "--boundaries FILE gives the ranges of domains",
        )
    by_name = {one.name: one for one in domains}
    found = StructureSet(structures)
    used = [by_name[name] for name in found.names]
    split = StructureSplit(
        id=f"cath-{representatives.lower()}",
        seed=seed,
        share=wanted,
        representatives=representatives,
        list_sha256=list_hash(cath),
        structures=found.fingerprint,
        codes={one.name: code_text(one) for one in used},
        parts=divide(used, seed=seed, share=wanted),
        left_out=dict(sorted(Counter(reasons.values()).items())),
    )
    out.mkdir(parents=True, exist_ok=True)
    write_structures(out / STRUCTURES_FILE, found)
    lines = [f"{name}\t{reason}\n" for name, reason in sorted(reasons.items())]
    write_atomic(out / LEFT_OUT_FILE, "".join(lines))
    write_model(out / SPLIT_FILE, split)
    return split


def _structures(
    domains: Sequence[Domain],
    folder: Path,
    boundaries: Mapping[str, Sequence[Segment]],
    clustering: Clustering,
    shortest: int,
    progress: Progress,
) -> tuple[list[Structure], Reasons]:
    """Return one structure of each cluster: of the first domain in the list that can be read."""
    files = find_files(folder)
    reasons: Reasons = {}
    waiting: dict[tuple[int | str, ...], list[Domain]] = {}
    for domain in domains:
        if domain.name not in files and domain.entry not in files:
            reasons[domain.name] = "no file of the entry"
            continue
        waiting.setdefault(_cluster(domain, clustering), []).append(domain)
    structures: list[Structure] = []
    while waiting:
        tried = [group.pop(0) for group in waiting.values()]
        found, failed = read_domains_of(
            folder, tried, boundaries, shortest=shortest, progress=progress
        )
        structures += found
        reasons |= failed
        done = {one.name for one in found}
        again: dict[tuple[int | str, ...], list[Domain]] = {}
        for (key, group), domain in zip(waiting.items(), tried, strict=True):
            if domain.name in done:
                reasons |= {one.name: _REPEATED for one in group}
            elif group:
                again[key] = group
        waiting = again
    return structures, reasons


def _cluster(domain: Domain, clustering: Clustering) -> tuple[int | str, ...]:
    if clustering == "none":
        return (domain.name,)
    depth = CLUSTERS[clustering] - CLUSTERS["S35"] + 1
    return (*domain.code, *domain.clusters[:depth])
