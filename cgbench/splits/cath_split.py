"""Splits of structures by the CATH classification: each level is new to a part of the tests.

Four parts test: ``test-C`` holds domains of a class that no training domain is of, ``test-A`` of an
architecture, ``test-T`` of a topology, and ``test-H`` of a homologous superfamily that none is of.
Whole nodes are held out, from the coarsest level on: what is left after the classes gives the
architectures, and so on. Validation domains are superfamilies of their own as well.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal, Self

import pydantic

from cgbench import config, registry
from cgbench.config import Frozen
from cgbench.errors import ValidationError
from cgbench.registry import Level
from cgbench.splits.cath import DEPTH, Domain
from cgbench.splits.model import permutation

FORMAT: Final = "cgbench-structure-split"
TRAIN: Final = "train"
VALIDATION: Final = "val"
#: A node is too large to be held out where it is more than so many times the share.
_AT_MOST: Final = 3.0

Clustering = Literal["none", "S35", "S60", "S95", "S100"]
DomainName = Annotated[
    str, pydantic.StringConstraints(pattern=r"^[0-9][a-z0-9]{3}[A-Za-z0-9]\d\d$")
]
Code = Annotated[str, pydantic.StringConstraints(pattern=r"^\d+\.\d+\.\d+\.\d+$")]
Sha256 = Annotated[str, pydantic.StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
_Share = Annotated[float, pydantic.Field(gt=0, lt=0.5)]


def part_of(level: Level) -> str:
    """Return the name of the part that tests a level."""
    return f"test-{level}"


class StructureSplit(Frozen):
    """A division of domains into training, validation and four tests.

    A file in which a test domain shares its level with a training or validation domain, or a domain
    is in two parts, is not a split.

    Attributes:
        id: Name of the split.
        seed: Of the order in which nodes are held out.
        share: Share of the remaining domains that each level holds out.
        representatives: Clusters of sequences of which one domain each was taken.
        list_sha256: Of the CATH list.
        structures: Fingerprint of the coordinates that belong to it.
        codes: Class, architecture, topology and superfamily of each domain, as ``1.10.8.10``.
        parts: Names of the domains of each part.
        left_out: How many domains of the list were not used, by the reason.
    """

    format: Literal["cgbench-structure-split"] = FORMAT
    version: Literal[1] = 1
    id: str = pydantic.Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,127}$")
    seed: int = pydantic.Field(ge=0)
    share: _Share
    representatives: Clustering
    list_sha256: Sha256
    structures: Sha256
    codes: dict[DomainName, Code] = pydantic.Field(min_length=1)
    parts: dict[str, tuple[DomainName, ...]]
    left_out: dict[str, int] = pydantic.Field(default_factory=dict)

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Self:
        if problems := problems_of(self.parts, self.codes):
            raise ValueError("; ".join(problems[:5]))
        return self

    @property
    def fingerprint(self) -> str:
        """Hash over everything in the file."""
        return config.fingerprint(self.model_dump(mode="json"))

    def level_of(self, name: str) -> Level | None:
        """Return the level at which a test domain is new; None for other domains."""
        for level in DEPTH:
            if name in self.parts[part_of(level)]:
                return level
        return None


def problems_of(parts: Mapping[str, Sequence[str]], codes: Mapping[str, str]) -> list[str]:
    """Return what keeps parts from being a split, one sentence each.

    Args:
        parts: Names of the domains of each part.
        codes: Code of each domain.
    """
    expected = [TRAIN, VALIDATION, *(part_of(level) for level in DEPTH)]
    if sorted(parts) != sorted(expected):
        return [f"parts are {', '.join(sorted(parts))}, not {', '.join(expected)}"]
    problems = []
    seen: dict[str, str] = {}
    for part, names in parts.items():
        for name in names:
            if name in seen:
                problems.append(f"{name} is in {seen[name]} and in {part}")
            seen[name] = part
    if unknown := sorted(set(seen) - set(codes)):
        return [*problems, f"{', '.join(unknown[:5])}: no code"]
    if unused := sorted(set(codes) - set(seen)):
        problems.append(f"{', '.join(unused[:5])}: in no part")
    if not parts[TRAIN]:
        problems.append("no domain trains")
    for level, depth in DEPTH.items():
        known = {_prefix(codes[name], depth): name for name in (*parts[VALIDATION], *parts[TRAIN])}
        problems += [
            f"{name} of {part_of(level)} shares its {_level_name(level)} "
            f"{_prefix(codes[name], depth)} with {other}, which trains or validates"
            for name in parts[part_of(level)]
            if (other := known.get(_prefix(codes[name], depth))) is not None
        ]
    known = {codes[name]: name for name in parts[TRAIN]}
    problems += [
        f"{name} of {VALIDATION} shares its superfamily with {other}"
        for name in parts[VALIDATION]
        if (other := known.get(codes[name])) is not None
    ]
    return problems


def divide(
    domains: Sequence[Domain], *, seed: int, share: float | None = None
) -> dict[str, tuple[str, ...]]:
    """Divide domains into parts by rule.

    At each level whole nodes are held out in random order until they hold the share of the
    remaining domains; a node is passed over where it is more than three times the share, or where
    no other node of the same parent would remain. Where every node is passed over, the smallest
    one that leaves another is taken, and where there is none, the level has no test.

    Args:
        domains: What to divide.
        seed: Of the order of the nodes.
        share: Share that each level holds out; the registry's if None.

    Raises:
        ValidationError: Nothing would be left to train on.
    """
    wanted = registry.sampler_constants().structures.share if share is None else share
    remaining = sorted(domains)
    parts: dict[str, tuple[str, ...]] = {}
    levels = [(part_of(level), depth) for level, depth in DEPTH.items()]
    for number, (part, depth) in enumerate([*levels, (VALIDATION, DEPTH["H"])]):
        held_out = _held_out(remaining, depth, wanted, seed + number)
        parts[part] = tuple(one.name for one in remaining if one.code[:depth] in held_out)
        remaining = [one for one in remaining if one.code[:depth] not in held_out]
    if not remaining:
        raise ValidationError("structures: nothing is left to train on", found=len(domains))
    parts[TRAIN] = tuple(one.name for one in remaining)
    return parts


def _held_out(
    domains: Sequence[Domain], depth: int, share: float, seed: int
) -> set[tuple[int, ...]]:
    sizes: dict[tuple[int, ...], int] = {}
    for domain in domains:
        node = domain.code[:depth]
        sizes[node] = sizes.get(node, 0) + 1
    siblings: dict[tuple[int, ...], int] = {}
    for node in sizes:
        siblings[node[:-1]] = siblings.get(node[:-1], 0) + 1
    nodes = sorted(sizes)
    order = [nodes[int(place)] for place in permutation(len(nodes), seed)]
    goal, limit = share * len(domains), _AT_MOST * share * len(domains)
    held_out: set[tuple[int, ...]] = set()
    taken = 0
    for node in order:
        if taken >= goal:
            break
        # A test of a level is of nodes whose parent still trains.
        if taken + sizes[node] <= limit and siblings[node[:-1]] > 1:
            held_out.add(node)
            siblings[node[:-1]] -= 1
            taken += sizes[node]
    if not held_out:
        smallest = min(
            (node for node in order if siblings[node[:-1]] > 1),
            key=lambda node: (sizes[node], order.index(node)),
            default=None,
        )
        held_out = set() if smallest is None else {smallest}
    return held_out


def read_structure_split(path: Path) -> StructureSplit:
    """Read a split of structures.

    Raises:
        UsageError: The file does not exist.
        IntegrityError: It cannot be parsed.
        ValidationError: It is not a split: parts overlap, or a level is shared with training.
    """
    return config.read_model(StructureSplit, path)


def code_text(domain: Domain) -> str:
    """Return a code as CATH writes it."""
    return ".".join(str(number) for number in domain.code)


def _prefix(code: str, depth: int) -> str:
    return ".".join(code.split(".")[:depth])


def _level_name(level: Level) -> str:
    return registry.sampler_constants().structures.names[level]


def counts(split: StructureSplit) -> dict[str, int]:
    """Return the number of domains of each part."""
    return {part: len(names) for part, names in split.parts.items()}
