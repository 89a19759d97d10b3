"""Croissant 1.0 metadata of the suite's data sets (mlcommons.org/croissant/1.0), as JSON-LD.

The files are the published ones, each with its address. Their publisher states no hashes, so the
metadata is that of a live data set; hashes are given where the registry pins them.
"""

import json
from pathlib import Path
from typing import Any, Final

from cgbench import registry
from cgbench.config import write_atomic
from cgbench.registry import RemoteFile
from cgbench.version import __version__

CROISSANT_NAME: Final = "croissant.json"

_PREFIXES: Final = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
}
#: Terms of the vocabulary; those that hold plain JSON or a name have a type as well.
_TERMS: Final = (
    "citeAs",
    "column",
    "equivalentProperty",
    "extract",
    "field",
    "fileProperty",
    "fileObject",
    "fileSet",
    "format",
    "includes",
    "isLiveDataset",
    "jsonPath",
    "key",
    "md5",
    "parentField",
    "path",
    "recordSet",
    "references",
    "regex",
    "repeated",
    "replace",
    "samplingRate",
    "separator",
    "source",
    "subField",
    "transform",
)
_MEDIA_TYPES: Final = {
    "archive": "application/gzip",
    "pdb": "chemical/x-pdb",
    "psf": "text/plain",
    "yaml": "application/yaml",
}
_RECORDS: Final = "systems"


def update_croissant(folder: Path, *, check: bool = False) -> list[Path]:
    """Write the metadata into a folder; return the file if it was not up to date.

    Args:
        folder: Where ``croissant.json`` lies.
        check: Change nothing.
    """
    path = folder / CROISSANT_NAME
    text = json.dumps(croissant(), indent=1, ensure_ascii=False) + "\n"
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return []
    if not check:
        write_atomic(path, text)
    return [path]


def croissant() -> dict[str, Any]:
    """Return the metadata of the suite: every published file, and one record for each system."""
    return {
        "@context": _PREFIXES
        | {term: f"cr:{term}" for term in _TERMS}
        | {
            "conformsTo": "dct:conformsTo",
            "data": {"@id": "cr:data", "@type": "@json"},
            "examples": {"@id": "cr:examples", "@type": "@json"},
            "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
        },
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": "cgbench",
        "description": (
            "Coarse-grained protein data: Cα coordinates and forces of all-atom molecular dynamics "
            "of twelve fast-folding proteins (Majewski et al., Nat. Commun. 2023), with native "
            "structures, starting frames, priors and the authors' coarse-grained trajectories. "
            "The publisher states no licence for them and no hashes; hashes given here are of "
            "files that cgbench has seen."
        ),
        "url": "https://github.com/torchmd/torchmd-protein-thermodynamics",
        "citeAs": (
            "Majewski et al., Machine learning coarse-grained potentials of protein "
            "thermodynamics, Nature Communications (2023), arXiv 2212.07492"
        ),
        "version": __version__,
        "isLiveDataset": True,
        "distribution": [_file(file) for file in registry.remote_files()],
        "recordSet": [_records()],
    }


def _file(file: RemoteFile) -> dict[str, Any]:
    described: dict[str, Any] = {
        "@type": "cr:FileObject",
        "@id": str(file.path),
        "name": file.name,
        "description": f"{file.kind} of {file.system}" + (f". {file.note}" if file.note else ""),
        "contentUrl": file.url,
        "encodingFormat": _MEDIA_TYPES.get(file.content, "application/octet-stream"),
    }
    if file.sha256 is not None:
        described["sha256"] = file.sha256
    if file.size is not None:
        described["contentSize"] = f"{file.size} B"
    return described


def _records() -> dict[str, Any]:
    fields = {
        "key": ("sc:Text", "Name of the system in cgbench."),
        "name": ("sc:Text", "Name of the protein."),
        "sequence": ("sc:Text", "One letter for each bead; X is norleucine."),
        "n_beads": ("sc:Integer", "Number of Cα beads."),
        "temperature": ("sc:Float", "Temperature of the reference simulations in K."),
        "pdb_id": ("sc:Text", "Entry of the native structure in the Protein Data Bank."),
    }
    published = [system for system in registry.systems() if not system.embedded]
    return {
        "@type": "cr:RecordSet",
        "@id": _RECORDS,
        "name": _RECORDS,
        "description": "The proteins.",
        "key": {"@id": f"{_RECORDS}/key"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{_RECORDS}/{name}",
                "name": name,
                "description": description,
                "dataType": kind,
            }
            for name, (kind, description) in fields.items()
        ],
        "data": [
            {
                f"{_RECORDS}/{name}": getattr(system.native if name == "pdb_id" else system, name)
                for name in fields
            }
            for system in published
        ],
    }
