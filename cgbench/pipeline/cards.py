"""Data cards: hand-written prose around blocks that follow from the registry and the store.

A card is ``<folder>/<system>/README.md``. What stands between ``<!-- facts: NAME -->`` and
``<!-- end of facts -->`` is written by this module; everything else is left as it is.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from cgbench import registry
from cgbench.config import read_model, read_text, write_atomic
from cgbench.errors import ValidationError
from cgbench.pipeline.card_facts import MEASURED_NAME, StoreFacts
from cgbench.registry import RemoteFile, System

CARD_NAME: Final = "README.md"
NOT_YET_RUN: Final = "not yet run"

_BLOCK = re.compile(r"<!-- facts: ([a-z]+) -->\n(.*?)<!-- end of facts -->", re.DOTALL)


def update_cards(folder: Path, *, check: bool = False) -> list[Path]:
    """Write the blocks of every system's card anew; return the cards that were not up to date.

    Args:
        folder: Folder with one folder for each system.
        check: Change nothing.

    Raises:
        UsageError: A system has no card.
        ValidationError: A card lacks a block, or has one that there is not.
    """
    changed = []
    for system in registry.systems():
        path = folder / system.key / CARD_NAME
        old = read_text(path)
        new = fill(old, blocks(system, read_facts(folder, system.key)), path)
        if new != old:
            changed.append(path)
            if not check:
                write_atomic(path, new)
    return changed


def read_facts(folder: Path, system: str) -> StoreFacts | None:
    """Return what was measured of a system's store, or None where nothing was."""
    path = folder / system / MEASURED_NAME
    return read_model(StoreFacts, path) if path.is_file() else None


def fill(card: str, texts: Mapping[str, str], origin: Path) -> str:
    """Return a card with its blocks replaced.

    Raises:
        ValidationError: The card lacks a block, has one twice, or one that there is not.
    """
    found = [match.group(1) for match in _BLOCK.finditer(card)]
    if sorted(found) != sorted(texts):
        raise ValidationError(
            f"{origin}: not the blocks of a card",
            expected=", ".join(f"<!-- facts: {name} -->" for name in texts),
            found=", ".join(found) or "none",
            fix="give the card each block once, ended by <!-- end of facts -->",
        )
    return _BLOCK.sub(
        lambda match: f"<!-- facts: {match[1]} -->\n{texts[match[1]]}\n<!-- end of facts -->", card
    )


def blocks(system: System, facts: StoreFacts | None) -> dict[str, str]:
    """Return the text of every block of a system's card, in the order of a card."""
    return {
        "system": _system(system),
        "frames": _frames(system, facts),
        "forces": _forces(system, facts),
        "files": _files(system),
        "splits": _splits(system),
        "analysis": _analysis(system),
        "published": _published(system),
    }


def table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return a table in Markdown."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _or_reason(value: object, system: System, name: str) -> str:
    return f"not known: {system.reasons[name]}" if value is None else str(value)


def _native(system: System) -> str:
    native = system.native
    if native.pdb_id is None:
        return native.source
    first, last = native.residues or (None, None)
    model = "" if native.model is None else f", model {native.model}"
    return f"PDB {native.pdb_id}{model}, chain {native.chain}, residues {first} to {last}"


def _system(system: System) -> str:
    rows = [
        ("name", system.name),
        ("sequence", f"`{system.sequence}`"),
        ("beads", f"{system.n_beads}, one at each Cα atom"),
        ("native structure", _native(system)),
        ("simulated with substitutions", ", ".join(system.substitutions) or "none"),
        ("temperature", f"{system.temperature:g} K"),
        ("constraints", _or_reason(system.constraints, system, "constraints")),
        ("licence", _or_reason(system.licence, system, "licence")),
    ]
    if system.minimum_start_rmsd is not None:
        rows.append(
            (
                "closest published starting frame",
                f"{system.minimum_start_rmsd:.2f} Å Cα RMSD to the native structure",
            )
        )
    variants = [mutant.key for mutant in registry.mutants() if mutant.parent == system.key]
    if variants:
        rows.append(("mutants", ", ".join(f"`{key}`" for key in variants)))
    facts = table(("fact", "value"), rows)
    return facts if system.note is None else f"{facts}\n\n{system.note.strip()}"


def _frames(system: System, facts: StoreFacts | None) -> str:
    if facts is None:
        claimed = (
            "not known"
            if system.frame_interval is None
            else f"{system.frame_interval:g} ps as published, not verified"
        )
        rows = [("frames", NOT_YET_RUN), ("frame interval", claimed), ("screening", NOT_YET_RUN)]
        return (
            f"{table(('fact', 'value'), rows)}\n\n"
            f"`cgbench download {system.key}`, `cgbench preprocess {system.key}` and "
            f"`cgbench datasets measure {system.key}` fill this table."
        )
    masked = {reason: number for reason, number in facts.screening.items() if number}
    rows = [
        ("frames", f"{facts.frames:,}, {_valid(facts)}"),
        ("masked", ", ".join(f"{n:,} {reason}" for reason, n in masked.items()) or "none"),
    ]
    if facts.trajectories is None:
        rows.append(("trajectories", "boundaries unknown"))
    else:
        rows.append(("trajectories", f"{facts.trajectories:,}, {_lengths(facts)}"))
    if facts.start_kinds is not None:
        started = ", ".join(f"{n} times `{kind}`" for kind, n in facts.start_kinds.items())
        rows.append(("started from", started))
    if facts.frame_interval is None:
        rows.append(("frame interval", "not verified"))
    else:
        rows.append(("frame interval", f"{facts.frame_interval:g} ps"))
        rows.append(("total time", f"{facts.frames * facts.frame_interval / 1000:g} ns"))
    rows.append(("store", f"`{facts.fingerprint}`"))
    return table(("fact", "value"), rows)


def _valid(facts: StoreFacts) -> str:
    return "all of them valid" if facts.valid == facts.frames else f"{facts.valid:,} of them valid"


def _lengths(facts: StoreFacts) -> str:
    if facts.shortest == facts.longest:
        return f"of {facts.longest:,} frames each"
    return f"of {facts.shortest:,} to {facts.longest:,} frames"


def _forces(system: System, facts: StoreFacts | None) -> str:
    rows = []
    for name in system.force_maps if facts is None else facts.force_maps:
        shown = f"`{name}`" + " (default)" * (name == system.default_force_map)
        measured = None if facts is None else facts.force_maps[name]
        if measured is None:
            rows.append((shown, system.force_map_consistent[name], NOT_YET_RUN, NOT_YET_RUN))
            continue
        error = measured.lowest_error
        rows.append(
            (
                shown,
                measured.consistent,
                f"{measured.mean_square:.1f}",
                NOT_YET_RUN if error is None else f"{error.value:.2f} ({error.model})",
            )
        )
    header = ("map", "consistent with the mean force", "mean square", "lowest held-out error")
    return (
        f"{table(header, rows)}\n\nMean squares and errors are those of a force component, in "
        "(kcal/mol/Å)². The noise that no model can predict cannot be read off the data; the "
        "lowest held-out error reached is an upper bound of it."
    )


def _files(system: System) -> str:
    if system.embedded:
        return "The store, its splits, reference and native structure come with the package."
    files = registry.remote_files([system.key])
    rows = [(file.kind, _link(file), file.stated_size or "", _pinned(file)) for file in files]
    notes = [f"- `{file.name}`: {file.note}" for file in files if file.note is not None]
    listed = table(("kind", "file", "size as published", "hash"), rows)
    return "\n".join([listed, *([""] if notes else []), *notes])


def _link(file: RemoteFile) -> str:
    return f"[`{file.name}`]({file.url})"


def _pinned(file: RemoteFile) -> str:
    return "on first download" if file.sha256 is None else f"`{file.sha256[:12]}…`"


def _splits(system: System) -> str:
    settings = system.split
    shares = ", ".join(
        f"{part} {100 * getattr(settings, part):g} %" for part in ("train", "val", "test")
    )
    unit = (
        "whole trajectories"
        if settings.unit == "trajectory"
        else f"contiguous blocks, {settings.gap_frames:,} frames apart"
    )
    rows = [
        (f"`{rule.id}`", rule.description + (f" Here: {unit}; {shares}." * (not rule.fractions)))
        for rule in registry.splits()
        if rule.left_out is None
    ]
    rows += [
        (f"`{rule.id}`", rule.description)
        for rule in registry.splits()
        if rule.left_out == system.key
    ]
    return table(("split", "rule"), rows)


def _analysis(system: System) -> str:
    analysis = system.analysis
    values = {
        "tica_lag_ps": ("TICA lag", f"{analysis.tica_lag_ps:g} ps"),
        "tica_dimensions": ("TICA dimensions", str(analysis.tica_dimensions)),
        "tica_epsilon": ("TICA rank cutoff", f"{analysis.tica_epsilon:g}"),
        "msm_lag_ps": ("Markov state model lag", f"{analysis.msm_lag_ps:g} ps"),
        "n_microstates": ("microstates", str(analysis.n_microstates)),
        "n_macrostates": (
            "macrostates",
            "largest spectral gap in 2 to 6"
            if analysis.n_macrostates is None
            else str(analysis.n_macrostates),
        ),
        "model_msm_lag_ps": ("lag for simulated ensembles", f"{analysis.model_msm_lag_ps:g} ps"),
    }
    rows = [(what, value, analysis.source[name]) for name, (what, value) in values.items()]
    return table(("constant", "value", "source"), rows)


def _published(system: System) -> str:
    mutants = {mutant.key for mutant in registry.mutants() if mutant.parent == system.key}
    rows = [
        (
            fact.quantity + (f", `{fact.system}`" if fact.system in mutants else ""),
            f"{fact.comparison} {fact.value:g} {fact.unit}".replace("= ", "").removesuffix(" 1"),
            fact.label,
            fact.source,
        )
        for fact in registry.published_facts()
        if fact.value is not None and (fact.system == system.key or fact.system in mutants)
    ]
    if not rows:
        return "No number of this system alone is at hand from the reference work's text."
    return table(("quantity", "published", "of", "source"), rows)
