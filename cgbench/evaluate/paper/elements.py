"""Native elements of secondary structure, as far as the registry knows them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.errors import UsageError
from cgbench.evaluate.reference_bundle import ReferenceBundle
from cgbench.evaluate.secondary_structure import element_rmsd
from cgbench.results.paper import PaperElement


@dataclass(frozen=True)
class Elements:
    """Elements and how far they are from the native ones.

    Attributes:
        described: What the result says of them.
        rmsd: (n, n_elements) RMSD in Å of frames (n, n_beads, 3); None without elements.
    """

    described: tuple[PaperElement, ...]
    rmsd: Callable[[NDArray[np.float32]], NDArray[np.float64]] | None

    @property
    def names(self) -> tuple[str, ...]:
        """Names in the order of the columns of ``rmsd``."""
        return tuple(element.name for element in self.described)


def elements_of(bundle: ReferenceBundle) -> Elements:
    """Return the elements of a bundle's system; none where the registry does not know them."""
    try:
        found = registry.secondary_structure(bundle.system)
    except UsageError:
        found = ()
    described = tuple(
        PaperElement(name=element.name, residues=element.beads, source=element.source)
        for element in found
    )
    if not found:
        return Elements((), None)
    return Elements(described, lambda frames: element_rmsd(frames, bundle.native, found))
