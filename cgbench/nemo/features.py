"""What a sampler sees of a chain: one-hot amino acids, with evolutionary frequencies if there are.

The letters are those of the twenty amino acids. Norleucine, which the vocabulary of beads has as a
residue of its own, is taken for leucine, as the published prior force field takes it.
"""

from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cgbench.errors import ValidationError

#: Frequencies (N, 20) of amino acids in related sequences, in the order of ``AMINO_ACIDS``.
Profile: TypeAlias = NDArray[np.float32]

#: Order of the columns of a sequence and of a profile.
AMINO_ACIDS: Final = "ACDEFGHIKLMNPQRSTVWY"
#: Letters that stand for another one.
STANDS_FOR: Final = {"X": "L"}
#: Beads of the shortest chain that has a dihedral angle.
SHORTEST: Final = 4
#: Beads of the longest chain that is taken: a bound on memory, far above any domain.
LONGEST: Final = 5000
#: Rows of a profile add up to one within this, or are empty.
_TOLERANCE: Final = 0.05


def encode(sequence: str, profile: Profile | None = None) -> NDArray[np.float32]:
    """Return the features of a chain, (N, 20) or with a profile (N, 40).

    Args:
        sequence: One letter a residue.
        profile: Frequencies (N, 20) in the order of ``AMINO_ACIDS``.

    Raises:
        ValidationError: A letter is no amino acid, the chain is too short or too long, or the
            profile is of another chain.
    """
    if not SHORTEST <= len(sequence) <= LONGEST:
        raise ValidationError(
            "sequence: its length cannot be used",
            expected=f"{SHORTEST} to {LONGEST} residues",
            found=len(sequence),
        )
    letters = [STANDS_FOR.get(letter, letter) for letter in sequence]
    unknown = sorted(set(letters) - set(AMINO_ACIDS))
    if unknown:
        raise ValidationError(
            "sequence: letters that are no amino acid",
            expected=f"{AMINO_ACIDS}, or X for norleucine",
            found=" ".join(repr(letter) for letter in unknown[:10]),
        )
    columns = [AMINO_ACIDS.index(letter) for letter in letters]
    one_hot = np.eye(len(AMINO_ACIDS), dtype=np.float32)[columns]
    if profile is None:
        return one_hot
    check_profile(profile, len(sequence), "profile")
    return np.concatenate([one_hot, np.asarray(profile, dtype=np.float32)], axis=1)


def check_profile(profile: NDArray[Any], n_residues: int, what: str) -> None:
    """Check the frequencies of a chain.

    Raises:
        ValidationError: They are of another length, not finite, negative, or do not add up to one.
    """
    expected = (n_residues, len(AMINO_ACIDS))
    if profile.shape != expected or profile.dtype.kind not in "fiu":
        raise ValidationError(
            f"{what}: not the frequencies of this chain",
            expected=f"{expected} numbers",
            found=f"{profile.shape} {profile.dtype}",
        )
    if not np.isfinite(profile).all() or (profile < 0).any():
        raise ValidationError(f"{what}: frequencies have to be finite and not negative")
    sums = profile.sum(axis=1)
    wrong = np.flatnonzero((np.abs(sums - 1.0) > _TOLERANCE) & (sums != 0.0))
    if len(wrong):
        raise ValidationError(
            f"{what}: frequencies of residue {int(wrong[0]) + 1} do not add up",
            expected="1, or 0 where nothing is known",
            found=f"{float(sums[wrong[0]]):.3f}",
        )
