"""Linear maps from atom forces to bead forces: slice, constraint-aware group, optimal."""

from cgbench.force_maps.files import ForceMapFile, read_force_map, write_force_map
from cgbench.force_maps.groups import (
    ConstraintRule,
    bead_atoms,
    constraint_groups,
    groups_from_constraints,
)
from cgbench.force_maps.maps import FitRecord, ForceMap, hydrogens_map, slice_map
from cgbench.force_maps.optimal import DEFAULT_RIDGE, fit_optimal
from cgbench.force_maps.report import MapError, MapReport, map_report
from cgbench.force_maps.statistics import ForceStatistics

__all__ = [
    "DEFAULT_RIDGE",
    "ConstraintRule",
    "FitRecord",
    "ForceMap",
    "ForceMapFile",
    "ForceStatistics",
    "MapError",
    "MapReport",
    "bead_atoms",
    "constraint_groups",
    "fit_optimal",
    "groups_from_constraints",
    "hydrogens_map",
    "map_report",
    "read_force_map",
    "slice_map",
    "write_force_map",
]
