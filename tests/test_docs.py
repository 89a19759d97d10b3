"""What README.md and the pages of docs/ tell a reader to run does run."""

import json
import re
import runpy
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from cgbench import registry
from cgbench.cli.main import app
from cgbench.evaluate import Ensemble
from cgbench.splits import read_split
from cgbench.store import find_model, find_split, open_store, read_trajectories

ROOT = Path(__file__).parent.parent
#: Followed command by command in test_tutorials.py; here they are parsed.
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *TUTORIALS,
    *sorted((ROOT / "datasets").rglob("*.md")),
    *sorted((ROOT / "baselines").rglob("*.md")),
]
SAMPLE = "chignolin-sample"

#: Commands that take seconds on what a reader has at that point; the others are parsed only.
CHEAP = (
    "cgbench check",
    "cgbench info",
    "cgbench preprocess",
    "cgbench splits",
    "cgbench reference show",
)
#: Data that a reader fetches first, which no test does; commands on them are parsed only.
PUBLISHED = {system.key for system in registry.systems() if not system.embedded}
#: These take longer; following the first page is enough.
ON_THE_FIRST_PAGE = ("cgbench evaluate --ensemble",)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; pytest shows where it begins."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        yield Block(page, text.count("\n", 0, found.start()) + 1, found[1], found[2])


def commands(block: Block) -> list[list[str]]:
    """The commands of a console block, chains taken apart."""
    parts = (part for line in block.text.splitlines() for part in line.split("&&"))
    split = (shlex.split(part, comments=True) for part in parts)
    return [command for command in split if command]


ALL = [block for page in PAGES for block in blocks(page)]
PYTHON = [block for block in ALL if block.language == "python"]
CONSOLE = [block for block in ALL if block.language == "console"]


def inline_commands() -> Iterator[str]:
    """Commands of the command line in running text and tables, where they are complete."""
    for page in PAGES:
        for found in re.findall(r"`cgbench ((?:[a-z]+ ?)[^`]*)`", page.read_text(encoding="utf-8")):
            yield found.replace("\n", " ")


def parse(arguments: list[str]) -> None:
    """Parse arguments with the real command line, and run nothing."""
    command: Any = typer.main.get_command(app)
    context = None
    while True:
        context = command.make_context(command.name, list(arguments), parent=context)
        if not hasattr(command, "resolve_command"):
            return
        rest = [*context._protected_args, *context.args]
        if not rest:
            return
        _, command, arguments = command.resolve_command(context, rest)


def cgbench(arguments: list[str]) -> str:
    """Run the command line in this process; return what it prints on stdout."""
    done = CliRunner().invoke(app, arguments)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, f"{shlex.join(arguments)}\n{done.output}"
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A reader's folder: empty, with a data home of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CGBENCH_HOME", str(tmp_path / "home"))
    return tmp_path


def raw_arrays(folder: Path, n_trajectories: int = 20) -> None:
    """Raw files of the first trajectories of the sample."""
    store = open_store(SAMPLE)
    folder.mkdir(parents=True)
    bounds = store.trajectory_bounds[:n_trajectories]
    stop = int(bounds[-1, 1])
    np.save(folder / "chignolin_ca_coords.npy", store.coordinates(0, stop))
    for force_map, name in (("slice", ""), ("optimal", "_optimal")):
        forces = store.forces(0, stop, force_map=force_map)
        np.save(folder / f"chignolin_ca_forces{name}.npy", forces)
    np.save(folder / "chignolin_ca_embeddings.npy", np.asarray(store.bead_types))
    (folder / "trajectories.json").write_text(
        json.dumps({"lengths": np.diff(bounds, axis=1)[:, 0].tolist()})
    )


def own_recipe(folder: Path) -> None:
    """The recipe of a reader's own protein, beside its arrays."""
    (folder / "my-protein.yaml").write_text(
        f"key: my-protein\nname: Mine\nsequence: {registry.system(SAMPLE).sequence}\n"
        "temperature: 350.0\nframe_interval: 1.0\nlicence: MIT\ndescription: Made for a test.\n"
        "npy:\n  coordinates: RAW/chignolin_ca_coords.npy\n"
        "  forces: {slice: RAW/chignolin_ca_forces.npy}\n  lengths: RAW/trajectories.json\n"
        "force_maps: {slice: unknown}\ndefault_force_map: slice\n",
        encoding="utf-8",
    )


def test_there_is_something_to_check() -> None:
    assert len(PYTHON) >= 4
    assert len(CONSOLE) >= 8
    assert len(list(inline_commands())) >= 10


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page not in TUTORIALS],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_a_reader_can_follow_the_page_from_top_to_bottom(page: Path, folder: Path) -> None:
    shutil.copy(find_model("torchmd-gn/chignolin-sample"), folder / "model.pt")
    for name in ("RAW", "RAW_FOLDER", "RUN"):
        raw_arrays(folder / name)
    own_recipe(folder)
    cheap = CHEAP + (ON_THE_FIRST_PAGE if page == PAGES[0] else ())
    known: dict[str, Any] = {}
    for block in blocks(page):
        if block.language == "python":
            script = folder / "block.py"
            script.write_text(block.text, encoding="utf-8")
            # What an earlier block of the page has made is there, as it is for its reader.
            made = runpy.run_path(str(script), init_globals=known)
            known = {name: value for name, value in made.items() if not name.startswith("__")}
        if block.language == "console":
            for command in commands(block):
                if " ".join(command).startswith(cheap) and not PUBLISHED & set(command):
                    cgbench(command[1:])
    for made in folder.rglob("trajectories.zarr"):
        assert Ensemble.from_trajectory_set(read_trajectories(made)).n_frames == 640


@pytest.mark.parametrize("block", CONSOLE, ids=str)
def test_every_command_exists(block: Block) -> None:
    for command in commands(block):
        if command[0] == "cgbench":
            parse(command[1:])
        elif command[:2] == ["python", "-m"]:
            name = command[2].replace(".", "/")
            assert command[2] in ("venv", "pytest") or (ROOT / f"{name}.py").is_file(), command
        elif command[0] == "python":
            assert (ROOT / command[1]).is_file(), command
        else:
            assert command[0] in ("python3", ".", "pip"), command


@pytest.mark.parametrize("text", sorted(set(inline_commands())))
def test_every_command_in_the_text_exists(text: str) -> None:
    verbs: Any = typer.main.get_command(app)
    arguments = shlex.split(text)
    # A verb alone, or one with the name of an option, is a mention, not a command to type.
    if len(arguments) == 1:
        assert arguments[0] in verbs.commands
    elif arguments[-1] in value_options(verbs, arguments[:-1]):
        return
    else:
        parse(arguments)


def value_options(command: Any, verbs: list[str]) -> set[str]:
    """Names of the options of a verb that take a value."""
    for verb in verbs:
        command = getattr(command, "commands", {}).get(verb)
        if command is None:
            return set()
    return {name for item in command.params if not getattr(item, "is_flag", True)
            for name in item.opts}  # fmt: skip


@pytest.mark.parametrize(
    "arguments", [["frobnicate"], ["info", "a", "--verfy"], ["splits", "mak", "a"], ["check"]]
)
def test_parsing_finds_what_does_not_exist(arguments: list[str]) -> None:
    with pytest.raises(Exception, match=r"(?i)no such|missing"):
        parse(arguments)


def test_files_and_folders_that_the_readme_names_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"\]\((?!http)([^)]+)\)|`((?:docs|cgbench|datasets|baselines)/[^`]*)`", text)
    for link, code in named:
        assert (ROOT / (link or code)).exists(), link or code


def test_pages_link_only_to_pages_that_exist() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([\w/.-]+\.md)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).is_file(), f"{page}: {target}"


@pytest.fixture(scope="module")
def card() -> str:
    return (ROOT / "datasets" / SAMPLE / "README.md").read_text(encoding="utf-8")


def told(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cgbench([*arguments, "--json"]))
    return found


def facts(card: str) -> dict[str, list[str]]:
    """Cells of the card's tables by their first one."""
    rows = (line.strip("|").split(" | ") for line in card.splitlines() if line.startswith("|"))
    return {first.strip(" `"): [cell.strip() for cell in rest] for first, *rest in rows}


def test_the_card_tells_what_the_store_tells(card: str, folder: Path) -> None:
    store = told("info", SAMPLE)
    metadata, known = store["metadata"], facts(card)
    n_frames, n_trajectories = store["n_frames"], store["n_trajectories"]
    assert store["n_valid"] == n_frames
    assert known["sequence"] == [f"`{metadata['sequence']}`"]
    assert known["beads"][0].startswith(f"{store['n_beads']},")
    assert known["frames"] == [f"{n_frames:,}, all of them valid"]
    each = n_frames // n_trajectories
    assert each * n_trajectories == n_frames
    assert known["trajectories"] == [f"{n_trajectories}, of {each} frames each"]
    assert known["frame interval"] == [f"{metadata['frame_interval']:g} ps"]
    assert known["total time"] == [f"{n_frames * metadata['frame_interval'] / 1000:g} ns"]
    assert known["temperature"] == [f"{metadata['temperature']:g} K"]
    assert known["constraints"] == [metadata["constraints"]]
    assert known["licence"] == [metadata["licence"]]
    for kind in set(metadata["start_kind"]):
        number = metadata["start_kind"].count(kind)
        assert re.search(rf"\b{number}\s+times\s+`{kind}`", card), kind
    opened = open_store(SAMPLE)
    for name in metadata["force_maps"]:
        forces = opened.forces(force_map=name).astype(np.float64)
        shown = name + "` (default)" * (name == metadata["default_force_map"])
        expected = [metadata["force_map_consistent"][name], f"{(forces**2).mean():.1f}"]
        assert known[shown][:2] == expected


def test_the_card_tells_what_the_split_tells(card: str) -> None:
    split = read_split(find_split(SAMPLE, "block-v1"))
    assert split.trajectories is not None
    for part in split.part_names:
        counts = [str(len(split.trajectories[part])), f"{len(split.frames(part)):,}"]
        assert facts(card)[part] == counts


def test_the_card_tells_what_the_reference_tells(card: str, folder: Path) -> None:
    reference = told("reference", "show", SAMPLE)
    analysis, known = reference["analysis"], facts(card)
    assert known["TICA"] == [
        f"all pair distances, lag {analysis['tica_lag_ps']:g} ps, "
        f"{analysis['tica_dimensions']} dimensions"
    ]
    assert known["Markov state model"] == [
        f"{reference['n_microstates']} microstates, lag {analysis['msm_lag_ps']:g} ps, "
        f"{reference['n_macrostates']} macrostates"
    ]
    folded = reference["folded_population"]
    assert known["folded population"] == [
        f"{folded['value']:.2f}, 95 % interval {folded['lo']:.2f} to {folded['hi']:.2f}"
    ]
    assert known["folding events"] == [str(reference["n_folding"])]
    assert known["unfolding events"] == [str(reference["n_unfolding"])]
    assert known["slowest timescale"] == [
        f"{reference['slowest_timescale_ps']['value'] / 1000:.1f} ns"
    ]
    assert known["converged"] == [str(reference["converged"]).lower()]
    basins = reference["basins"]
    assert f"less than {100 * basins['unfolded_q']:g} %" in card
    assert f"at least {100 * basins['folded_q']:g} %" in card
    assert f"At least {registry.constants().minimum_events} of each" in card.replace("\n", " ")


@pytest.mark.data
def test_the_card_s_commands_make_the_embedded_store_again(
    chignolin_dir: Path, folder: Path
) -> None:
    (folder / "RAW").symlink_to(chignolin_dir)
    rebuild = next(block for block in CONSOLE if block.page.parent.name == SAMPLE)
    for command in commands(rebuild)[:2]:
        cgbench(command[1:])
    made = open_store(SAMPLE, folder / "my-data")
    assert made.path.is_relative_to(folder)
    assert made.fingerprint == open_store(SAMPLE).fingerprint
    relative = f"splits/{SAMPLE}/block-v1.json"
    embedded = ROOT / "cgbench" / "assets" / relative
    assert (folder / "my-data" / relative).read_bytes() == embedded.read_bytes()
