"""Native structures of variants: found in their entry by the parent's sequence, and kept with it.

An entry of the Protein Data Bank may hold a residue more or less than the parent was simulated
with. It is aligned with the parent: what hangs over is cut off; up to two residues that the
structure does not show at an end are built on, because the reference work simulated its variants
at their parents' lengths; up to two residues that are truly inserted or deleted stay so. What was
built is simulated but not scored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np

from cgbench import config, registry
from cgbench.config import Frozen
from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.ingest.native import (
    NativeBeads,
    Residue,
    chains_of,
    check_bonds,
    checked_text,
    extract_native,
    mutations,
    write_native,
)
from cgbench.ingest.variant_alignment import BOND, align, differences, extended
from cgbench.registry import Mutant

#: So many residues may be missing at the ends, inserted or deleted, together; as in the reference
#: work, which extended two of its variants by one or two.
MOST_DIFFERENT: Final = 2
#: A chain is taken for a variant of its parent from this fraction of equal residues on; chosen
#: here: unrelated chains share about one residue in ten, the variants differ in a few.
LEAST_IDENTITY: Final = 0.6
#: How far a trans bond of an experimental structure may be from that, in Å.
_BOND_TOLERANCE: Final = 0.4


class Variant(Frozen):
    """A variant as it is simulated and scored; beside its native structure as JSON.

    Attributes:
        format: Always ``cgbench-variant``.
        version: Version of this format.
        key: ``<parent>-<PDB id>``.
        parent: Key of the system it is a variant of.
        pdb_id: The entry.
        chain: Chain within it.
        model: Model within it.
        first_residue: First residue, in the numbering of the entry's authors.
        last_residue: Last residue.
        sequence: One letter for each bead, built ones included.
        mutations: Differences from the parent: ``K50A`` a substitution, ``12_13insG`` an
            insertion, ``K5del`` a deletion; beads of the parent, counted from 1.
        scored_beads: Half-open range of beads, from 0, that the entry shows.
        entry_sha256: Of the entry.
    """

    format: Literal["cgbench-variant"] = "cgbench-variant"
    version: Literal[1] = 1
    key: str
    parent: str
    pdb_id: str
    chain: str
    model: int
    first_residue: str
    last_residue: str
    sequence: str
    mutations: tuple[str, ...]
    scored_beads: tuple[int, int]
    entry_sha256: str


@dataclass(frozen=True)
class VariantBeads:
    """A variant with its native structure.

    Attributes:
        variant: What it is.
        beads: Its beads, built ones included.
    """

    variant: Variant
    beads: NativeBeads


def variant_path(key: str, home: Path | None = None) -> Path:
    """Return where the description of a variant lies; its structure is beside it as ``.pdb``."""
    return config.data_home(home) / "native" / f"{key}.json"


def extract_variant(path: Path, mutant: Mutant) -> VariantBeads:
    """Return a variant from its whole entry of the Protein Data Bank.

    Args:
        path: The entry, in pdb format.
        mutant: The registry's entry.

    Raises:
        UsageError: There is no such file.
        IntegrityError: The file is truncated, of another entry, or cannot be parsed.
        ValidationError: No chain is like the parent but for a few residues.
    """
    if mutant.sequence is None:
        beads, told, scored = _aligned(path, mutant)
    else:
        beads = extract_native(path, mutant)
        told = mutations(registry.system(mutant.parent).sequence, beads.sequence)
        scored = mutant.scored_beads or (0, len(beads.residues))
    return VariantBeads(
        Variant(
            key=mutant.key,
            parent=mutant.parent,
            pdb_id=mutant.pdb_id,
            chain=beads.chain,
            model=beads.model,
            first_residue=beads.residues[scored[0]].label,
            last_residue=beads.residues[scored[1] - 1].label,
            sequence=beads.sequence,
            mutations=told,
            scored_beads=scored,
            entry_sha256=config.file_sha256(path),
        ),
        beads,
    )


def write_variant(folder: Path, found: VariantBeads) -> None:
    """Write ``<key>.pdb`` and then ``<key>.json`` into a folder, each atomically."""
    write_native(folder / f"{found.variant.key}.pdb", found.beads)
    config.write_model(folder / f"{found.variant.key}.json", found.variant)


def read_variant(key: str, home: Path | None = None) -> Variant:
    """Return what was read of a variant from its entry.

    A native structure of one's own without a description is taken where the registry knows the
    variant's sequence.

    Raises:
        UsageError: Its entry was not downloaded; the message names the command.
        IntegrityError: The description is of another variant.
    """
    mutant = registry.mutant(key)
    path = variant_path(key, home)
    if path.is_file():
        found = config.read_model(Variant, path)
        if found.key != key:
            raise IntegrityError(f"{path}: another variant", expected=key, found=found.key)
        return found
    structure = path.with_suffix(".pdb")
    if structure.is_file() and mutant.native is not None and mutant.sequence is not None:
        first, last = mutant.native.residues or ("", "")
        return Variant(
            key=key,
            parent=mutant.parent,
            pdb_id=mutant.pdb_id,
            chain=str(mutant.native.chain),
            model=mutant.native.model or 1,
            first_residue=str(first),
            last_residue=str(last),
            sequence=mutant.sequence,
            mutations=mutant.mutations or (),
            scored_beads=mutant.scored_beads or (0, len(mutant.sequence)),
            entry_sha256=config.file_sha256(structure),
        )
    raise UsageError(
        f"{key}: no native structure here",
        found=f"nothing at {path}",
        fix=f"cgbench download {mutant.key} --kind native",
    )


def _aligned(path: Path, mutant: Mutant) -> tuple[NativeBeads, tuple[str, ...], tuple[int, int]]:
    """Find the chain that is most like the parent, with a few residues more or less."""
    parent = registry.system(mutant.parent).sequence
    text = checked_text(path, mutant.pdb_id)
    reasons = []
    best: tuple[int, str, list[tuple[int | None, int | None]], list[Residue]] | None = None
    for chain, residues in chains_of(path, text, 1).items():
        score, pairs = align(parent, "".join(residue.letter for residue in residues))
        same = sum(
            old is not None and new is not None and residues[new].letter == parent[old]
            for old, new in pairs
        )
        different = sum(None in pair for pair in pairs)
        if same < LEAST_IDENTITY * len(parent):
            reasons.append(f"chain {chain} shares {same} of {len(parent)} residues")
        elif different > MOST_DIFFERENT:
            reasons.append(f"chain {chain} has {different} residues more or less than the parent")
        elif best is None or score > best[0]:
            best = (score, chain, pairs, residues)
    if best is None:
        raise ValidationError(
            f"{path}: no chain of {mutant.pdb_id} is {mutant.parent} but for a few residues",
            expected=f"{parent}, at most {MOST_DIFFERENT} residues more or less",
            found="; ".join(reasons[:5]) or "no chain",
            fix="the reference work's own structure comes with "
            f"'cgbench download {mutant.key} --kind mutants'",
        )
    _, chain, pairs, residues = best
    return _resolved(path, mutant, chain, pairs, residues)


def _resolved(
    path: Path,
    mutant: Mutant,
    chain: str,
    pairs: Sequence[tuple[int | None, int | None]],
    residues: Sequence[Residue],
) -> tuple[NativeBeads, tuple[str, ...], tuple[int, int]]:
    parent = registry.system(mutant.parent).sequence
    shown = [index for index, (_, new) in enumerate(pairs) if new is not None]
    before, after = shown[0], len(pairs) - 1 - shown[-1]
    inner = pairs[before : len(pairs) - after]
    own = [residues[new] for _, new in inner if new is not None]
    unknown = [one for one in own if one.letter not in registry.bead_vocabulary().letters]
    if unknown:
        raise ValidationError(
            f"{path}: residue {unknown[0].label} of chain {chain} is no bead of the vocabulary",
            expected="an amino acid with a bead type",
            found=unknown[0].letter,
        )
    check_bonds(path, own)
    _check_deletions(path, inner, residues)
    letters = [one.letter for one in own]
    first = [parent[old] for old, _ in pairs[:before] if old is not None]
    last = [parent[old] for old, _ in pairs[len(pairs) - after :] if old is not None]
    built = extended(own, first, last)
    sequence = "".join((*first, *letters, *last))
    beads = NativeBeads(
        key=mutant.key,
        pdb_id=mutant.pdb_id,
        chain=chain,
        model=1,
        residues=built,
        sequence=sequence,
        substitutions=(),
    )
    return beads, differences(parent, inner, residues), (before, before + len(own))


def _check_deletions(
    path: Path, pairs: Sequence[tuple[int | None, int | None]], residues: Sequence[Residue]
) -> None:
    """Check that the neighbours of a deletion are bonded: residues may only not be shown.

    Beads two bonds apart in a helix are as close as the longest bond that a simulation may have, so
    the length of a bond in a structure is asked for.
    """
    for index, (_, new) in enumerate(pairs):
        if new is not None:
            continue
        before = next(one for _, one in reversed(pairs[:index]) if one is not None)
        first, second = residues[before], residues[before + 1]
        length = float(np.linalg.norm(second.position - first.position))
        if abs(length - BOND) > _BOND_TOLERANCE:
            raise ValidationError(
                f"{path}: residues {first.label} and {second.label} are not neighbours: what is "
                "between them is not shown",
                expected=f"{BOND} Å apart, give or take {_BOND_TOLERANCE} Å",
                found=f"{length:.2f} Å",
            )
