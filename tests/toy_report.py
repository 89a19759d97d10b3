"""A report page of made-up numbers that has every part."""

import numpy as np

from cgbench.report import (
    Absent,
    Cell,
    Column,
    Curve,
    Difference,
    ImageFigure,
    MacrostateRow,
    PairMaps,
    Panel,
    PaperSection,
    ReportContent,
    Row,
    Standing,
    Statement,
    Structure,
    Structures,
    Surface,
    SystemSection,
    Table,
    TraceSet,
    Verdict,
)

HOSTILE = (
    "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">$x^$"
)
SEQUENCE = "YYDPETGTWY"
#: Address of an image of nothing.
PICTURE = "data:image/svg+xml;base64,PHN2ZyB4bWxucz0iaHR0cDovL3d3dy53My5vcmcvMjAwMC9zdmciLz4="


def helix(n_beads=10, shift=0.0):
    """Cα of a helix, (n_beads, 3) in Å."""
    turn = np.deg2rad(100.0) * np.arange(n_beads) + shift
    return np.stack([2.3 * np.cos(turn), 2.3 * np.sin(turn), 1.5 * np.arange(n_beads)], axis=1)


def curve(name, centre, *, reference=False, band=False):
    x = np.linspace(-3.0, 3.0, 121)
    y = np.exp(-0.5 * ((x - centre) / 0.5) ** 2)
    if not band:
        return Curve(name, x, y, reference)
    energy = 2.0 * (x - centre) ** 2
    return Curve(name, x, energy, reference, energy - 0.2, energy + 0.2)


def structures(names, backbone=False):
    frames = helix()[None]
    if backbone:
        offsets = np.array([[-1.2, 0.3, 0], [0, 0, 0], [1.2, 0.3, 0.4], [1.6, 1.4, 0.4]])
        frames = (frames[:, :, None] + offsets).reshape(1, -1, 3)
    models = [
        Structure(name, "model", np.concatenate([frames + 0.5 * index, frames - 0.5]))
        for index, name in enumerate(names)
    ]
    shown = [Structure("native", "native", frames), Structure("reference", "reference", frames)]
    return Structures(SEQUENCE, backbone, [("0 (native)", [*shown, *models]), ("1", shown)])


def section(names, system="chignolin-sample", backbone=False):
    edges = (np.linspace(-2, 2, 81), np.linspace(-2, 2, 81))
    x = 0.5 * (edges[0][1:] + edges[0][:-1])
    surface = 3.0 * (x[:, None] ** 2 + x[None, :] ** 2)
    surface = np.where(surface > 12.0, np.nan, surface)
    time = np.linspace(0.0, 20.0, 201)
    replicas = [(time, 3.0 + np.sin(time + i), np.cos(time + i)) for i in range(4)]
    maps = PairMaps(np.full((10, 10), 0.2), np.full((10, 10), 0.4))
    curves = (curve("reference", 0.0, reference=True), *(curve(name, 0.4) for name in names))
    bands = (
        curve("reference", 0.0, reference=True, band=True),
        *(curve(name, 0.4, band=True) for name in names),
    )
    return SystemSection(
        system=system,
        title=system,
        verdicts=[
            Verdict(
                name,
                f"{name} folds too rarely.",
                [
                    Statement("right", "Bonds."),
                    Statement("wrong", "TIC 1."),
                    Statement("open", "Size."),
                ],
            )
            for name in names
        ],
        warnings=["The reference is not converged."],
        facts={"frames": "52500", "licence": "MIT"},
        columns=[
            Column("w1_tic1", "Distance of TIC 1", "σ", "min", "Along", "thermodynamics", True),
            Column("rg_w1", "Distance of Rg", "Å", "min", "Of Rg", "thermodynamics"),
            Column("tm", "TM score", "", "max", "Fold", "structure"),
            Column("other_js", "Divergence of others", "nat", "min", "Theirs", "optional"),
        ],
        rows=[
            *(
                Row(name, "model", {"w1_tic1": Cell(0.31 + i, 0.2, 0.4), "rg_w1": Cell(1.0, 0, 2)})
                for i, name in enumerate(names)
            ),
            Row("md_split_half", "reference row", {"w1_tic1": Cell(0.05, 0.01, 0.09)}),
            Row("ideal_chain", "reference row", {"w1_tic1": Cell(12.5, 9.0, 13.0, "far", "void")}),
            Row("native_constant", "reference row", {"w1_tic1": Cell(None, None, None, "none")}),
        ],
        surfaces=[
            Surface("reference", surface, False),
            *(Surface(name, surface + 1.0, True) for name in names),
            Surface("md_split_half", surface, False),
            Surface("ideal_chain", surface + 2.0, False),
        ],
        map_edges=edges,
        map_cutoff=4.0,
        native_tics=(0.0, 0.0),
        standings=[
            Standing(
                "w1_tic1", "Distance of TIC 1", "σ", (0.05, 0.01, 0.09), 1.5,
                {"start_frames": 0.3}, dict.fromkeys(names, (0.31, 0.2, 0.4)),
            )
        ],
        profiles=[Panel("TIC 1", "", bands), Panel("TIC 2", "", bands)],
        panels=[Panel("radius of gyration", "Å", curves), Panel("Q", "", curves)],
        local_panels=[Panel("bond length", "Å", curves)],
        traces={
            name: TraceSet(replicas, Panel("RMSD", "Å", curves), Panel("TIC 1", "", curves))
            for name in names
        },
        contacts=dict.fromkeys(names, maps),
        dihedrals=dict.fromkeys(names, PairMaps(np.ones((7, 72)), np.ones((7, 72)))),
        macrostates=[
            MacrostateRow(0, True, 0.2, 1.1, dict.fromkeys(names, 0.3), dict.fromkeys(names, 1.5)),
            MacrostateRow(1, False, 0.8, 4.1, dict.fromkeys(names, 0.0), dict.fromkeys(names)),
        ],
        structures=structures(names, backbone),
        differences=[
            Difference("Distance of Rg", name, "prior_only", -0.5, -0.7, -0.2, "Å", "min")
            for name in names
        ]
        + [Difference("Distance of TIC 1", name, "prior_only", 0.1, -0.7, 0.9) for name in names]
        + [
            Difference("Theirs", name, "prior_only", 0.4, 0.2, 0.9, "", "min", "optional")
            for name in names
        ],
        paper=[
            PaperSection(
                name,
                "ok",
                ["Four macrostates."],
                [Table("Macrostates", ["macrostate", "probability"], [["0 (native)", 0.25]])],
                [ImageFigure("Free energy", "As in the paper.", PICTURE, "svg")],
            )
            for name in names[:1]
        ],
    )  # fmt: skip


def content(*names, systems=("chignolin-sample",), backbone=False):
    names = names or ("model-a",)
    return ReportContent(
        title="Report",
        introduction="A page.",
        sections=[section(names, system, backbone) for system in systems],
        provenance={"version": "0.1.0"},
        overview=Table(
            "Overview",
            ["system", "model", "Distance of TIC 1"],
            [["b", name, 2.0] for name in names] + [["a", name, 10.0] for name in names],
        ),
        absent=[
            Absent(names[0], "lambda", "missing", "no reference: run 'cgbench reference build'"),
            Absent(names[0], "homeodomain", "failed", "every frame is lost"),
        ],
        tables=[Table("Cost", ["model", "steps/s"], [[name, 812.0] for name in names])],
        commands=["cgbench evaluate model-a --out RUN", "cgbench report RUN"],
    )
