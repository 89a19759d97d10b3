"""Groups the figures of one system under headings, with the words that go with them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cgbench.report.content import SystemSection
from cgbench.report.drawing import COLOURS, colour_of
from cgbench.report.figures import Colours, densities, profiles, standing, trace
from cgbench.report.maps import contact_maps, dihedral_maps, surface_pair
from cgbench.report.text import number


@dataclass(frozen=True)
class Figure:
    """One drawn figure with the words that go with it."""

    key: str
    title: str
    alt: str
    caption: str
    svg: str | None = None
    image: str | None = None
    suffix: str = "png"


@dataclass(frozen=True)
class FigureGroup:
    """Figures under one heading.

    Attributes:
        title: The heading.
        figures: The figures.
        text: Words before them.
        folded: Whether a reader opens them.
        first: Whether they stand before the table of metrics.
        packed: Whether they are of unequal height, and fill two columns one after the other.
    """

    title: str
    figures: Sequence[Figure]
    text: str = ""
    folded: bool = False
    first: bool = False
    packed: bool = False


def figure_groups(section: SystemSection, place: int) -> Iterator[FigureGroup]:
    """Draw the figures of one system."""
    models = [row.name for row in section.rows if row.kind == "model"]
    others = [row.name for row in section.rows if row.kind != "model"]
    colours = colour_of(models, others)
    name = f"f{place}"
    of = f"of {section.system}"
    first = [
        *_standing(section, colours, f"{name}-standing"),
        *_profiles(section, colours, f"{name}-profiles"),
    ]
    if first:
        yield FigureGroup("At a glance", first, first=True)
    yield from _surfaces(section, name)
    drawn = [
        (panels, title, key)
        for panels, title, key in (
            (section.panels, "Size and fold", f"{name}-global"),
            (section.local_panels, "Local geometry", f"{name}-local"),
        )
        if panels
    ]
    figures = [
        Figure(
            key,
            title,
            f"{title} {of}: " + ", ".join(panel.title for panel in panels),
            "Probability densities; the reference is the shaded curve.",
            densities(panels, colours, key),
        )
        for panels, title, key in drawn
    ]
    figures += [
        Figure(
            f"{name}-dihedral{index}",
            f"Dihedral angles, {model}",
            f"Distribution of every Cα dihedral angle {of}, reference and {model}",
            "One line a dihedral angle of four consecutive Cα.",
            dihedral_maps(model, maps, f"{name}-dihedral{index}"),
        )
        for index, (model, maps) in enumerate(section.dihedrals.items())
    ]
    figures += [
        Figure(
            f"{name}-contact{index}",
            f"Contacts, {model}",
            f"Contact maps {of}: how often each pair of residues is in contact in the "
            f"reference and in {model}",
            "Share of the frames in which two Cα are in contact, the reference above the diagonal "
            "and the model below it.",
            contact_maps(model, maps, f"{name}-contact{index}"),
        )
        for index, (model, maps) in enumerate(section.contacts.items())
    ]
    if figures:
        yield FigureGroup("Distributions and contacts", figures, packed=True)
    if section.traces:
        yield FigureGroup(
            "Trajectories",
            [
                Figure(
                    f"{name}-trace{index}",
                    model,
                    f"RMSD to the native structure and slowest coordinate of every trajectory of "
                    f"{model} {of}",
                    "One line a trajectory; at the right the weighted distribution, the reference "
                    "in the colour of the text.",
                    trace(
                        traces,
                        colours.get(model, (COLOURS[0], "-"))[0],
                        f"{name}-trace{index}",
                    ),
                )
                for index, (model, traces) in enumerate(section.traces.items())
            ],
        )


def _standing(section: SystemSection, colours: Colours, key: str) -> Iterator[Figure]:
    if section.standings:
        yield Figure(
            key,
            "Distances from the reference",
            f"Distances of {section.system} from the reference, scaled to the ideal chain; every "
            "number is in the table of metrics",
            "Dots with 95 % intervals are models. The grey bars are the noise floor: halves of the "
            "reference against each other, at the model's number of frames. A model inside the bar "
            "cannot be told from the reference by this much data; one at the vertical tick is as "
            "far off as a freely jointed chain. Where the tick is inside the bar, nothing can be "
            "told. Marks at the right edge lie beyond it.",
            standing(section.standings, colours, key),
        )


def _profiles(section: SystemSection, colours: Colours, key: str) -> Iterator[Figure]:
    if section.profiles:
        yield Figure(
            key,
            "Free energy along the slow coordinates",
            f"Free energy of {section.system} along the two slowest coordinates, reference and "
            "models",
            "Bands are 95 % intervals over resampled trajectories. Every curve has its least value "
            "at zero; the dotted line is where comparison ends.",
            profiles(section.profiles, colours, section.map_cutoff, key),
        )


def _surfaces(section: SystemSection, name: str) -> Iterator[FigureGroup]:
    reference = next((item for item in section.surfaces if item.name == "reference"), None)
    if reference is None:
        return
    of = f"of {section.system}"
    edges, cutoff, native = section.map_edges, section.map_cutoff, section.native_tics
    key = f"{name}-surface"
    half = next((item for item in section.surfaces if item.name == "md_split_half"), None)
    compared = reference if half is None else half
    first = Figure(
        key,
        "Reference",
        f"Free-energy surface {of} over the reference's two slowest components, and the difference "
        "between a half of the reference and all of it",
        f"The line is where the reference reaches {number(cutoff)} kcal/mol, the star is the "
        "native conformer. Right, what chance alone does: half of the trajectories minus all.",
        surface_pair(
            ("reference", "half − reference"),
            reference.energy, compared.energy, reference.energy, edges, cutoff, native, key,
        ),
    )  # fmt: skip
    pairs = [
        (
            item.is_model,
            Figure(
                f"{key}{index}",
                item.name,
                f"Free-energy surface {of} of {item.name}, and its difference from the reference",
                "Left the surface, right its difference from the reference; the line and the star "
                "are the reference's.",
                surface_pair(
                    (item.name, "difference from reference"),
                    item.energy, item.energy, reference.energy, edges, cutoff, native,
                    f"{key}{index}",
                ),
            ),
        )
        for index, item in enumerate(section.surfaces)
        if item is not reference and item is not half
    ]  # fmt: skip
    models = [figure for is_model, figure in pairs if is_model]
    yield FigureGroup("Free-energy surfaces", [first, *models], first=True)
    beside = [figure for is_model, figure in pairs if not is_model]
    if beside:
        yield FigureGroup(
            "Free-energy surfaces of the reference rows", beside, folded=True, first=True
        )


def paper_figures(section: SystemSection, place: int) -> Iterator[list[Figure]]:
    """Give the figures of each paper-style analysis, drawn elsewhere."""
    for index, part in enumerate(section.paper):
        yield [
            Figure(
                f"f{place}-paper{index}-{count}",
                figure.title,
                f"{figure.title}, as in the reference work, of {part.name} on {section.system}",
                figure.description,
                image=figure.address,
                suffix=figure.suffix,
            )
            for count, figure in enumerate(part.figures)
        ]
