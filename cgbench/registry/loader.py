"""Reads the registry's data files, each once and only when it is asked for."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml

from cgbench.config import validate
from cgbench.errors import UsageError
from cgbench.registry.beads import BeadVocabulary
from cgbench.registry.constants import Constants
from cgbench.registry.models import (
    MetricSpec,
    PublishedFact,
    SequenceIdentityRule,
    SplitSpec,
    System,
)
from cgbench.registry.mutant_models import Mutant, MutantScreening
from cgbench.registry.protocol_models import Protocol

Entry = TypeVar("Entry")

#: Metrics that other packages brought to this process.
_added_metrics: dict[str, MetricSpec] = {}

DATA = Path(__file__).parent / "data"

#: Fields of the leave-one-protein-out rule that hold the name of a system.
_TEMPLATED = ("id", "left_out")

# The loader in C is ten times as fast; PyYAML has it on all common platforms.
_YAML_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def system(key: str) -> System:
    """Return a system by its key.

    Raises:
        UsageError: There is no such system; the message names the closest keys.
    """
    return choose(_systems(), key, "system", _published_keys)


def systems() -> tuple[System, ...]:
    """Return the twelve published proteins, by number of beads, and then the embedded samples."""
    return tuple(_systems().values())


def mutant(key: str) -> Mutant:
    """Return a mutant by its key ``<parent>-<PDB id>``.

    Raises:
        UsageError: There is no such mutant; the message names the closest keys.
    """
    return choose(_mutants(), key, "mutant", lambda: {m.pdb_id: m.key for m in mutants()})


def mutants() -> tuple[Mutant, ...]:
    """Return the eleven mutants."""
    return tuple(_mutants().values())


@cache
def mutant_screening() -> MutantScreening:
    """Return how variants and their controls are tested."""
    return validate(MutantScreening, read_data_file("mutants")["screening"], DATA / "mutants.yaml")


def protocol(id: str) -> Protocol:  # noqa: A002
    """Return a protocol by its id.

    Raises:
        UsageError: There is no such protocol; the message names the closest ids.
    """
    return choose(_protocols(), id, "protocol")


def protocols() -> tuple[Protocol, ...]:
    """Return all protocols, the shortest first."""
    return tuple(_protocols().values())


def metric(id: str) -> MetricSpec:  # noqa: A002
    """Return a metric by its id.

    Raises:
        UsageError: There is no such metric; the message names the closest ids, or the package that
            would bring it.
    """
    package, colon, _ = id.partition(":")
    if colon and id not in _added_metrics:
        raise UsageError(
            f"unknown metric {id}",
            expected="a metric of this suite, or of a package that is installed",
            fix=f"install the package {package} in this environment",
        )
    return choose(_metrics() | _added_metrics, id, "metric")


def metrics() -> tuple[MetricSpec, ...]:
    """Return all metrics in the order of tables; those of other packages come last."""
    return (*_metrics().values(), *_added_metrics.values())


def add_metric(spec: MetricSpec) -> None:
    """Make known a metric that another package brings.

    Args:
        spec: Its description, with an id ``package:name``.

    Raises:
        UsageError: The id names no package, so that it could be taken for one of the suite's own.
    """
    if ":" not in spec.id:
        raise UsageError(
            "a metric of another package needs its name", expected="package:name", found=spec.id
        )
    _added_metrics[spec.id] = spec


def split(id: str) -> SplitSpec:  # noqa: A002
    """Return the rule of a split by its id.

    Raises:
        UsageError: There is no such split; the message names the closest ids.
    """
    return choose(_splits(), id, "split")


def splits() -> tuple[SplitSpec, ...]:
    """Return the rules of all splits, the canonical one first."""
    return tuple(_splits().values())


@cache
def sequence_identity() -> SequenceIdentityRule:
    """Return when two sequences count as the same protein."""
    path = DATA / "splits.yaml"
    return validate(SequenceIdentityRule, read_data_file("splits")["identity"], path)


@cache
def published_facts() -> tuple[PublishedFact, ...]:
    """Return the published numbers that are shown beside results."""
    records = read_data_file("published_facts")["facts"]
    return tuple(validate(PublishedFact, record, DATA) for record in records)


@cache
def bead_vocabulary() -> BeadVocabulary:
    """Return the vocabulary of the published arrays."""
    return validate(BeadVocabulary, read_data_file("beads"), DATA / "beads.yaml")


@cache
def constants() -> Constants:
    """Return the constants of the metrics."""
    return validate(Constants, read_data_file("constants"), DATA / "constants.yaml")


@cache
def _systems() -> dict[str, System]:
    return _index(System, map(_completed, read_data_file("systems")["systems"]), "key")


@cache
def _mutants() -> dict[str, Mutant]:
    return _index(Mutant, read_data_file("mutants")["mutants"], "key")


@cache
def _protocols() -> dict[str, Protocol]:
    return _index(Protocol, read_data_file("protocols")["protocols"], "id")


@cache
def _metrics() -> dict[str, MetricSpec]:
    return _index(MetricSpec, read_data_file("metrics")["metrics"], "id")


@cache
def _splits() -> dict[str, SplitSpec]:
    *rules, template = read_data_file("splits")["splits"]
    for key in _published_keys().values():
        rules.append(template | {name: template[name].format(system=key) for name in _TEMPLATED})
    return _index(SplitSpec, rules, "id")


def _completed(record: dict[str, Any]) -> dict[str, Any]:
    """Add what follows from the sequence, so that the data file states it once."""
    sequence = record["sequence"]
    derived = {"n_beads": len(sequence), "bead_types": bead_vocabulary().types(sequence)}
    return record | derived


def _published_keys() -> dict[str, str]:
    return {one.published_key: one.key for one in systems() if one.published_key is not None}


def read_data_file(name: str) -> dict[str, Any]:
    """Return the content of a data file of the registry, by its name without the suffix."""
    with (DATA / f"{name}.yaml").open("rb") as handle:
        # A safe loader: plain data only.
        content: dict[str, Any] = yaml.load(handle, Loader=_YAML_LOADER)  # noqa: S506
    return content


def _index(model: Any, records: Iterable[dict[str, Any]], field: str) -> dict[str, Any]:
    entries = [validate(model, record, f"{DATA}: {record[field]}") for record in records]
    return {str(getattr(entry, field)): entry for entry in entries}


def choose(
    entries: Mapping[str, Entry],
    key: str,
    kind: str,
    other_names: Callable[[], Mapping[str, str]] = dict,
) -> Entry:
    """Return the entry of a key.

    Args:
        entries: All entries by key.
        key: The key that was asked for.
        kind: What the entries are, for the message.
        other_names: Names that are no keys but should find one, only looked up for the message.

    Raises:
        UsageError: There is no such entry; the message names the closest keys.
    """
    if key in entries:
        return entries[key]
    names = {name.lower(): name for name in entries}
    names |= {name.lower(): known for name, known in other_names().items()}
    wanted = str(key).lower()
    if wanted in names:
        close = [wanted]
    else:
        extended = [name for name in names if wanted and name.startswith(wanted)]
        close = extended + difflib.get_close_matches(wanted, names, n=3, cutoff=0.5)
    closest = list(dict.fromkeys(names[name] for name in close))[:3]
    raise UsageError(
        f"{key}: no such {kind}",
        expected=", ".join(entries),
        found=key,
        fix=f"did you mean {' or '.join(closest)}?" if closest else None,
    )
