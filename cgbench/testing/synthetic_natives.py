"""Native structures of synthetic systems, and the energies at which half of them are folded."""

import shutil
from pathlib import Path
from typing import Final

from cgbench import registry
from cgbench.config import data_home
from cgbench.errors import UsageError
from cgbench.ingest.variants import extract_variant, read_variant, variant_path, write_variant
from cgbench.models import GoChain

#: ε in kcal/mol at which about half of the frames are folded (Q of at least 0.6) at 350 K, found by
#: replica exchange over a ladder of energies (``cgbench.train.folding.folding_curve``, 200 ps) on
#: the native structures of the published entries; a variant has the energy of its parent.
SCALES: Final[dict[str, float]] = {
    "chignolin": 0.81,
    "trpcage": 0.78,
    "bba": 0.78,
    "wwdomain": 0.735,
    "villin": 0.78,
    "ntl9": 0.78,
    "bbl": 0.78,
    "proteinb": 0.78,
    "homeodomain": 0.78,
    "proteing": 0.78,
    "a3d": 0.78,
    "lambda": 0.785,
}
#: The proteins, from the smallest to the largest.
PROTEINS: Final = tuple(SCALES)
#: Variants whose entries are among the published data of the tests, by parent.
VARIANTS: Final = {"homeodomain-1P7I": "homeodomain", "proteinb-1GAB": "proteinb"}


def scale_of(system: str) -> float:
    """Return ε of a protein or variant in kcal/mol.

    Raises:
        UsageError: There is no synthetic system of that name.
    """
    found = SCALES.get(VARIANTS.get(system, system))
    if found is None:
        raise UsageError(
            f"{system}: no synthetic system of that name",
            expected=", ".join((*PROTEINS, *VARIANTS)),
        )
    return found


def chain_of(system: str, home: Path) -> tuple[GoChain, str]:
    """Return chain and sequence of a protein or variant; a variant's native must be in the home."""
    if system in VARIANTS:
        sequence = read_variant(system, home).sequence
    else:
        sequence = registry.system(system).sequence
    types = registry.bead_vocabulary().types(sequence)
    return GoChain(name=system, bead_types=types), sequence


def prepare_native(home: Path, system: str, published: Path | None) -> Path:
    """Put the native structure of a protein or variant into a data home, and return it.

    Args:
        home: The data home of synthetic data.
        system: Key of a protein or variant.
        published: Folder with ``native/<published key>_*_ca.pdb`` and ``mutants/<entry>*.pdb``; if
            None, or where it has none, the user's data home is looked in.

    Raises:
        UsageError: It is nowhere; the message says which command gets it.
    """
    target = home / "native" / f"{system}.pdb"
    variant = system in VARIANTS
    if target.is_file() and (not variant or variant_path(system, home).is_file()):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    entry = registry.mutant(system) if variant else registry.system(system)
    if published is not None:
        pdb_id = registry.mutant(system).pdb_id if variant else ""
        key = "" if variant else registry.system(system).published_key
        pattern = f"mutants/{pdb_id}*.pdb" if variant else f"native/{key}_*_ca.pdb"
        found = sorted(published.glob(pattern))
        if found and variant:
            write_variant(target.parent, extract_variant(found[0], registry.mutant(system)))
            return target
        if found:
            shutil.copyfile(found[0], target)
            return target
    users = data_home(None) / "native"
    if (users / f"{system}.pdb").is_file():
        for suffix in (".json", ".pdb"):
            if (users / f"{system}{suffix}").is_file():
                shutil.copyfile(users / f"{system}{suffix}", target.with_suffix(suffix))
        return target
    raise UsageError(
        f"{entry.key}: no native structure to make a synthetic system of",
        found=f"nothing at {users / f'{system}.pdb'}",
        fix=f"cgbench download {system}",
    )
