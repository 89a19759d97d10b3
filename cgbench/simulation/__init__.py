"""Langevin dynamics of batched replicas: restartable, with one random stream per replica."""

from cgbench.simulation.checkpoint import SimulationOutcome
from cgbench.simulation.engine import simulate
from cgbench.simulation.engines import Engine, EngineChoice, choose_engine
from cgbench.simulation.exchange import ExchangeOutcome
from cgbench.simulation.export import export_xtc
from cgbench.simulation.potentials import ChainPotential, adapt
from cgbench.simulation.stability import largest_stable_step
from cgbench.simulation.system import SystemInput

__all__ = [
    "ChainPotential",
    "Engine",
    "EngineChoice",
    "ExchangeOutcome",
    "SimulationOutcome",
    "SystemInput",
    "adapt",
    "choose_engine",
    "export_xtc",
    "largest_stable_step",
    "simulate",
]
