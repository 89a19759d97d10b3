"""What the user names (a system, a sequence, a PDB file) as the start of a run."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cgbench import registry
from cgbench.generate.backend import require
from cgbench.generate.campaign import Source
from cgbench.generate.pdb_lines import Selection
from cgbench.generate.settings import SystemSettings
from cgbench.generate.structures import check_sequence, from_pdb, from_sequence, in_order_of
from cgbench.registry import System

#: Appended to a system's key: what is generated is never mistaken for the published data.
_SUFFIX: Final = "-generated"


@dataclass(frozen=True)
class Target:
    """A protein to be simulated.

    Attributes:
        name: Beginning of the names of its raw files.
        sequence: One letter for each residue.
        structure: PDB file of its native structure, None without one.
        selection: Which residues of that file.
        notes: What the card says beyond the settings.
    """

    name: str
    sequence: str
    structure: Path | None
    selection: Selection
    notes: tuple[str, ...] = ()


def find_target(
    named: str, home: Path, *, structure: Path | None = None, chain: str | None = None
) -> Target:
    """Return the protein that a word means: a system of the registry, or a sequence.

    Args:
        named: Key of a system, or one-letter codes in capitals.
        home: Data home, where ``cgbench download --kind native`` leaves structures.
        structure: PDB file of the native structure; the downloaded one by default.
        chain: Chain of that file.

    Raises:
        UsageError: It is neither, or has residues that force fields do not know.
    """
    keys = {one.key for one in registry.systems()}
    if named not in keys and re.fullmatch(r"[A-Z]+", named):
        check_sequence(named)
        name = f"seq-{named.lower()}"[:60]
        return Target(name, named, structure, Selection(chain=chain, sequence=named))
    system = registry.system(named)
    check_sequence(system.sequence)
    name = f"{system.key}{_SUFFIX}"
    if structure is not None:
        selection = Selection(chain=chain, sequence=system.sequence)
        return Target(name, system.sequence, structure, selection)
    found = _downloaded(system, home)
    if found is None:
        return Target(name, system.sequence, None, Selection())
    path, entry = found
    selection = Selection(
        chain=entry.native.chain,
        residues=entry.native.residues,
        model=entry.native.model,
        sequence=system.sequence,
        substitutions=entry.substitutions,
    )
    return Target(name, system.sequence, path, selection, (f"Native structure: {path.name}.",))


def make_source(target: Target, settings: SystemSettings, *, seed: int) -> Source:
    """Build the extended chain and, where there is a structure, the native one.

    Raises:
        UsageError: A package is missing, or the force field does not know a residue.
        ValidationError: The structure is of another chain, or has gaps.
    """
    require("openmm")
    if target.structure is None:
        chain = from_sequence(target.sequence, settings, seed=seed)
        return Source(chain, None, notes=target.notes)
    native = from_pdb(target.structure, settings, target.selection, seed=seed)
    # The structure decides how histidines are protonated; the chain follows it.
    chain = from_sequence(target.sequence, settings, seed=seed, variants=native.variants)
    positions = in_order_of(native, chain.topology, target.structure)
    return Source(chain, positions, native.left_out, target.notes)


def _downloaded(system: System, home: Path) -> tuple[Path, System] | None:
    """Return the entry of a system, or of one with the same sequence, where it is at hand."""
    others = [one for one in registry.systems() if one.sequence == system.sequence]
    for one in [system, *others]:
        if one.native.pdb_id is None:
            continue
        for name in (f"{one.native.pdb_id}.pdb", f"{one.native.pdb_id.lower()}.pdb"):
            path = home / "raw" / one.key / "native" / name
            if path.is_file():
                return path, one
    return None
