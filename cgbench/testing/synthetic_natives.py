"""Native structures of synthetic systems, and the energies at which half of them are folded."""

import shutil
from pathlib import Path
from typing import Final

from cgbench import registry
from cgbench.config import data_home
from cgbench.errors import UsageError
from cgbench.evaluate.geometry import q_native
from cgbench.evaluate.native import read_native
from cgbench.ingest.native import NativeBeads, Residue, write_native
from cgbench.ingest.variants import extract_variant, read_variant, variant_path, write_variant
from cgbench.models import GoChain, GoConstants
from cgbench.train.folding import Calibration, folding_curve

#: Least Q of frames that count as folded where energies are chosen; chosen here.
_FOLDED_Q: Final = 0.6
#: ε in kcal/mol at which about half of the frames are folded at 350 K, by :func:`calibrated_scale`
#: on the native structures of the published entries. A variant has its parent's energy.
SCALES: Final[dict[str, float]] = {
    "chignolin": 0.8,
    "trpcage": 0.875,
    "bba": 0.811,
    "wwdomain": 0.692,
    "villin": 0.774,
    "ntl9": 0.706,
    "bbl": 0.819,
    "proteinb": 0.842,
    "homeodomain": 0.924,
    "proteing": 0.775,
    "a3d": 0.909,
    "lambda": 0.819,
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


def calibrated_scale(home: Path, system: str, folder: Path, length: float = 200.0) -> float:
    """Return the ε in kcal/mol at which half of the frames have Q ≥ 0.6 at 350 K, by simulation.

    This is how the numbers of ``SCALES`` were found. They need not be exact: both kinds of frames
    are in a store by how it is started.

    Args:
        home: A data home with the native structure (:func:`prepare_native`).
        system: Key of a protein or variant.
        folder: Where the simulation is kept while it runs.
        length: ps of each replica.

    Raises:
        ValidationError: Half of the frames are folded at no energy of the ladder.
    """
    chain, sequence = chain_of(system, home)
    native = read_native(home / "native" / f"{system}.pdb", sequence)
    curve = folding_curve(
        native,
        chain,
        sequence,
        lambda frames: q_native(frames, native) >= _FOLDED_Q,
        temperature=registry.system(VARIANTS.get(system, system)).temperature,
        constants=GoConstants(),
        calibration=Calibration(length=length, scales=(0.62, 1.05)),
        folder=folder,
    )
    return curve.scale_at(0.5)


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
            _write_published(found[0], system, target)
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


def _write_published(source: Path, system: str, target: Path) -> None:
    """Write the Cα atoms of a published file under the residues that were simulated."""
    entry = registry.system(system)
    letters = list(entry.sequence)
    for substitution in entry.substitutions:
        letters[int(substitution[1:-1]) - 1] = substitution[0]
    places = read_native(source, "".join(letters)).tolist()
    residues = tuple(
        Residue(number, "", letter, (f"{x:.3f}", f"{y:.3f}", f"{z:.3f}"))
        for number, (letter, (x, y, z)) in enumerate(zip(letters, places, strict=True), start=1)
    )
    beads = NativeBeads(
        key=system,
        pdb_id=str(entry.native.pdb_id),
        chain="A",
        model=1,
        residues=residues,
        sequence=entry.sequence,
        substitutions=entry.substitutions,
    )
    write_native(target, beads)
