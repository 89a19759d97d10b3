"""All-atom molecular dynamics that writes the raw layout which preprocessing reads."""

from cgbench.generate.campaign import Budget, Source, generate
from cgbench.generate.card import GenerationCard
from cgbench.generate.mbar import MbarSolution, solve_mbar, temperature_weights
from cgbench.generate.mean_force import compute_mean_forces
from cgbench.generate.mean_force_run import mean_forces_of_raw
from cgbench.generate.mean_force_set import (
    MeanForceSet,
    MeanForceSettings,
    mean_force_error,
    read_mean_forces,
)
from cgbench.generate.records import Machine
from cgbench.generate.replica_files import ExchangeCard
from cgbench.generate.replicas import run_replica_exchange
from cgbench.generate.settings import DynamicsSettings, GenerationSettings, SystemSettings
from cgbench.generate.system import build_system
from cgbench.generate.target import Target, find_target, make_source

__all__ = [
    "Budget",
    "DynamicsSettings",
    "ExchangeCard",
    "GenerationCard",
    "GenerationSettings",
    "Machine",
    "MbarSolution",
    "MeanForceSet",
    "MeanForceSettings",
    "Source",
    "SystemSettings",
    "Target",
    "build_system",
    "compute_mean_forces",
    "find_target",
    "generate",
    "make_source",
    "mean_force_error",
    "mean_forces_of_raw",
    "read_mean_forces",
    "run_replica_exchange",
    "solve_mbar",
    "temperature_weights",
]
