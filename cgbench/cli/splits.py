"""``cgbench splits``: canonical divisions into train, validation and test."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cgbench.cli.common import AsJson, Home, console, print_json, progress_bars
from cgbench.errors import UsageError

if TYPE_CHECKING:
    from cgbench.pipeline.left_out import Surveyed

app = typer.Typer(help="Make and check splits.", no_args_is_help=True)

#: Stands for every split that leaves one published protein out.
LEAVE_ONE_OUT = "lopo"


@app.command("make")
def make(
    system: Annotated[
        list[str] | None, typer.Argument(help="Systems with local stores; none with --cath.")
    ] = None,
    split: Annotated[
        str, typer.Option("--split", help="Split id; lopo for all that leave one protein out.")
    ] = "block-v1",
    out: Annotated[
        Path | None,
        typer.Option("--out", help="File (default: in the data home); with --cath a folder."),
    ] = None,
    cath: Annotated[
        Path | None,
        typer.Option("--cath", help="Split structures instead: a CATH list of domains (CLF)."),
    ] = None,
    structures: Annotated[
        Path | None,
        typer.Option("--structures", help="With --cath: folder of PDB or mmCIF files."),
    ] = None,
    boundaries: Annotated[
        Path | None,
        typer.Option("--boundaries", help="With --cath: residue ranges of domains (CDF)."),
    ] = None,
    representatives: Annotated[
        Literal["none", "S35", "S60", "S95", "S100"],
        typer.Option("--representatives", help="With --cath: one domain of each such cluster."),
    ] = "S35",
    share: Annotated[
        float | None,
        typer.Option("--share", help="With --cath: share of the domains new at each level."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="With --cath: of the choice.")] = 1,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Make a split by the rule of the registry or recipe and write it as JSON.

    With --cath, domains are divided so that no test domain shares its class, architecture, topology
    or homologous superfamily, one level a part, with training.
    """
    if cath is not None:
        _make_of_structures(
            system, cath, structures, boundaries, representatives, share, seed, out, as_json
        )
        return
    if structures is not None or boundaries is not None or share is not None:
        raise UsageError("--structures, --boundaries, --share: only with --cath")
    if not system:
        raise UsageError("splits make: give a SYSTEM, or --cath LIST")
    from cgbench.config import data_home
    from cgbench.splits import make_split, split_settings, write_split
    from cgbench.store import open_store

    ids = _ids(split)
    if out is not None and (len(system) > 1 or len(ids) > 1):
        raise UsageError("--out is the file of one split of one system")
    made: list[dict[str, Any]] = []
    for name in system:
        store = open_store(name, home)
        settings = split_settings(store, home)
        for one in ids:
            result = make_split(one, store, settings)
            target = out or data_home(home) / "splits" / store.metadata.system / f"{one}.json"
            write_split(target, result)
            why = result.settings.excluded_because
            made.append(
                {
                    "split": str(target),
                    "id": result.id,
                    "system": result.system,
                    "fingerprint": result.fingerprint,
                    "frames": {part: len(result.frames(part)) for part in ("train", "val", "test")},
                    "excluded_because": why,
                }
            )
            if not as_json:
                note = "" if why is None else f" (not trained on: {why})"
                console.print(f"split: {target}{note}", soft_wrap=True)
    if as_json:
        print_json(made[0] if len(made) == 1 else made)


@app.command("check")
def check(
    system: Annotated[
        str | None,
        typer.Argument(help="A system with a local store; none for all that a lopo split knows."),
    ] = None,
    split: Annotated[
        str, typer.Option("--split", help="Split id or file; lopo for every left-out protein.")
    ] = "block-v1",
    cath: Annotated[
        Path | None, typer.Option("--cath", help="Check a split of structures: its folder.")
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Check that a split is disjoint, complete, keeps its gap and belongs to the store.

    Of a split that leaves a protein out it says which data are not trained on, and why; without
    SYSTEM for every system, variant and store at hand, whose files of the split are checked too.
    """
    from cgbench.splits import check_split, read_split
    from cgbench.store import find_split, open_store

    if cath is not None:
        from cgbench.splits.cath_split import counts
        from cgbench.splits.cath_structures import open_structures

        found_split, _ = open_structures(cath)
        if as_json:
            print_json(
                {
                    "split": str(cath),
                    "valid": True,
                    "fingerprint": found_split.fingerprint,
                    "domains": counts(found_split),
                }
            )
        else:
            console.print(f"valid: {found_split.fingerprint}", soft_wrap=True)
        return
    if system is None:
        _survey(split, home, as_json)
        return
    path = find_split(system, split, home)
    checked = read_split(path)
    store = open_store(system, home)
    check_split(checked, store)
    rule = checked.settings
    found: dict[str, object] = {
        "split": str(path),
        "valid": True,
        "fingerprint": checked.fingerprint,
    }
    told = f"valid: {checked.fingerprint}"
    if rule.left_out is not None:
        from cgbench.splits import relation

        kin = relation(rule.left_out, checked.system, store.metadata.sequence)
        found |= {"left_out": rule.left_out, "excluded": kin.excluded, "reason": kin.reason}
        told += f"\n{'not trained on' if kin.excluded else 'trained on'}: {kin.reason}"
    if as_json:
        print_json(found)
    else:
        console.print(told, soft_wrap=True)


def _make_of_structures(
    system: list[str] | None,
    cath: Path,
    folder: Path | None,
    boundaries: Path | None,
    representatives: Literal["none", "S35", "S60", "S95", "S100"],
    share: float | None,
    seed: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Make a split of structures and print how many domains are in each part.

    Raises:
        UsageError: A system was named, or a folder is missing.
    """
    from cgbench.pipeline.structures import LEFT_OUT_FILE, make_structure_split
    from cgbench.splits.cath_split import counts

    if system:
        raise UsageError("--cath splits structures, not systems", found=" ".join(system))
    if folder is None or out is None:
        raise UsageError("--cath needs --structures FOLDER and --out FOLDER")
    with progress_bars() as progress:
        made = make_structure_split(
            cath,
            folder,
            out,
            boundaries=boundaries,
            seed=seed,
            share=share,
            representatives=representatives,
            progress=progress,
        )
    if as_json:
        print_json(
            {
                "split": str(out),
                "fingerprint": made.fingerprint,
                "domains": counts(made),
                "left_out": made.left_out,
            }
        )
        return
    for part, number in counts(made).items():
        note = "" if number else ", none could be held out"
        console.print(f"{part}: {number} domain(s){note}")
    for reason, number in made.left_out.items():
        console.print(f"left out: {number} × {reason}")
    if made.left_out:
        console.print(f"which ones: {out / LEFT_OUT_FILE}", soft_wrap=True)
    console.print(f"split: {out}", soft_wrap=True)


def _ids(split: str) -> list[str]:
    """Return the ids that a name on the command line stands for."""
    if split != LEAVE_ONE_OUT:
        return [split]
    from cgbench import registry

    return [one.id for one in registry.splits() if one.left_out is not None]


def _survey(split: str, home: Path | None, as_json: bool) -> None:
    """Show what one or all splits that leave a protein out leave out.

    Raises:
        UsageError: The split leaves no protein out, so that it needs a system.
        ValidationError: A file of such a split at hand is wrong.
    """
    from cgbench.pipeline.left_out import left_out_of, require_valid, survey

    found: dict[str, tuple[Surveyed, ...]] = {}
    for one in _ids(split):
        left_out = left_out_of(one)
        if left_out is None:
            raise UsageError(
                f"{one}: give a SYSTEM", fix=f"cgbench splits check SYSTEM --split {one}"
            )
        found[left_out] = survey(left_out, home)
    if as_json:
        described = [
            {"id": f"lopo-{key}", "left_out": key, "systems": [row.described() for row in rows]}
            for key, rows in found.items()
        ]
        print_json(described[0] if len(described) == 1 else described)
    else:
        _print(found)
    for rows in found.values():
        require_valid(rows)


def _print(found: "dict[str, tuple[Surveyed, ...]]") -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("left out", "not trained on"):
        table.add_column(name, no_wrap=True)
    table.add_column("because", overflow="fold")
    for left_out, rows in found.items():
        for row in rows:
            if row.relation.excluded:
                table.add_row(left_out, row.relation.system, row.relation.reason)
        others = [row.relation for row in rows if not row.relation.excluded]
        known = [one for one in others if one.identity is not None]
        nearest = max(known, key=lambda one: one.identity or 0.0, default=None)
        if nearest is not None:
            told = f"{len(others)} others are; the nearest is {nearest.system}, {nearest.reason}"
            table.add_row("", "", told)
        table.add_section()
    Console().print(table)
    files = [row for rows in found.values() for row in rows if row.split is not None]
    console.print(f"{len(files)} file(s) of these splits are at hand", soft_wrap=True)
