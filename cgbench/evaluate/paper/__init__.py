"""The analysis of the reference work (Majewski et al., 2023), constant by constant."""

from cgbench.evaluate.paper.analysis import PaperStudy, PaperTrace, paper_analysis, paper_study
from cgbench.evaluate.paper.elements import elements_of
from cgbench.evaluate.paper.flux import ReactiveFlux, pathways, reactive_flux

__all__ = [
    "PaperStudy",
    "PaperTrace",
    "ReactiveFlux",
    "elements_of",
    "paper_analysis",
    "paper_study",
    "pathways",
    "reactive_flux",
]
