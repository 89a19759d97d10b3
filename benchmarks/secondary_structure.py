"""Finds the elements of the native secondary structures and writes the registry's file of them.

    python benchmarks/secondary_structure.py NATIVE_FOLDER [--out FILE]

NATIVE_FOLDER holds the Cα atoms of the twelve native structures as `<key>_<PDB id>_ca.pdb`, with
the keys of the published files; those of the samples come with the package. Needs biotite, for
P-SEA. Elements that the reference work names (source `paper`) are not found but kept, and are then
the only ones of their system; so are the constants of the pairing.
"""

import argparse
import textwrap
from pathlib import Path
from typing import Any

import biotite.structure
import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.config import assets_home, write_atomic
from cgbench.evaluate.native import read_native
from cgbench.evaluate.secondary_structure import find_elements
from cgbench.registry import Element, System
from cgbench.registry.loader import DATA, read_data_file

OUT = DATA / "secondary_structure.yaml"
HEADER = """\
# Native secondary structure. Written by `python benchmarks/secondary_structure.py NATIVE_FOLDER`;
# only the pairing constants and the elements of source "paper" are entered by hand.
# annotation: P-SEA's letter for each bead (a helix, b strand, c neither), by biotite {version}
# from the native Cα. beads: half-open ranges, from 0.
"""


def native_coordinates(folder: Path, system: System) -> NDArray[np.float32]:
    """Return the native Cα (n_beads, 3) in Å, from the folder or from the package."""
    if system.embedded:
        return read_native(assets_home() / "native" / f"{system.key}.pdb", system.sequence)
    letters = list(system.sequence)
    for substitution in system.substitutions:
        letters[int(substitution[1:-1]) - 1] = substitution[0]
    name = f"{system.published_key}_{system.native.pdb_id}_ca.pdb"
    return read_native(folder / name, "".join(letters))


def annotate(coordinates: NDArray[np.floating[Any]]) -> str:
    """Return P-SEA's letter for each bead, a function of the Cα alone."""
    n_beads = len(coordinates)
    atoms = biotite.structure.AtomArray(n_beads)
    atoms.coord = np.asarray(coordinates, dtype=np.float32)
    atoms.atom_name[:], atoms.res_name[:], atoms.chain_id[:] = "CA", "ALA", "A"
    atoms.element[:] = "C"
    atoms.res_id[:] = np.arange(1, n_beads + 1)
    return "".join(biotite.structure.annotate_sse(atoms))


def elements_of(folder: Path, system: System) -> tuple[str, tuple[Element, ...]]:
    """Return P-SEA's annotation and the elements of a system."""
    coordinates = native_coordinates(folder, system)
    annotation = annotate(coordinates)
    known = read_data_file("secondary_structure")["systems"]
    published = tuple(
        Element.model_validate(element)
        for record in known
        if record["system"] == system.key
        for element in record["elements"]
        if element["source"] == "paper"
    )
    return annotation, published or find_elements(coordinates, annotation)


def as_yaml(found: dict[str, tuple[str, tuple[Element, ...]]]) -> str:
    """Return the content of the registry's file."""
    constants = registry.pairing_constants().model_dump()
    source = constants.pop("source")
    lines = [HEADER.format(version=biotite.__version__) + "pairing:"]
    lines += [f"  {name}: {value}" for name, value in constants.items()]
    lines += ["  source: >-", *(f"    {line}" for line in textwrap.wrap(source, 94)), "systems:"]
    for key, (annotation, elements) in found.items():
        lines += [f"  - system: {key}", f"    annotation: {annotation}"]
        lines.append("    elements:" if elements else "    elements: []")
        for element in elements:
            beads = ", ".join(f"[{first}, {stop}]" for first, stop in element.beads)
            lines.append(
                f"      - {{kind: {element.kind}, direction: {element.direction or 'null'}, "
                f"beads: [{beads}], source: {element.source}}}"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("native_folder", type=Path)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    found = {
        system.key: elements_of(options.native_folder, system) for system in registry.systems()
    }
    write_atomic(options.out, as_yaml(found))
    for key, (annotation, elements) in found.items():
        print(key, annotation)
        for element in elements:
            print(f"  {element.name} ({element.source})")


if __name__ == "__main__":
    main()
