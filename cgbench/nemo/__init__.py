"""NEMO: a learned energy and an unrolled simulator of it, as one differentiable sampler.

After J. Ingraham, A. Riesselman, C. Sander and D. Marks, "Learning protein structure with a
differentiable simulator", ICLR 2019.
"""

from cgbench.nemo.energy import Energy, EnergyWeights
from cgbench.nemo.internal import (
    InternalCoordinates,
    jacobian_product,
    jacobian_transpose_product,
    to_cartesian,
    to_internal,
)
from cgbench.nemo.model import Nemo
from cgbench.nemo.risk import Target, risk
from cgbench.nemo.sequence import Conditions, SequenceNetwork
from cgbench.nemo.settings import EnergySettings, NemoSettings, SimulatorSettings
from cgbench.nemo.simulator import Dynamics, Rollout, simulate
from cgbench.nemo.stability import lyapunov_penalty, stretch

__all__ = [
    "Conditions",
    "Dynamics",
    "Energy",
    "EnergySettings",
    "EnergyWeights",
    "InternalCoordinates",
    "Nemo",
    "NemoSettings",
    "Rollout",
    "SequenceNetwork",
    "SimulatorSettings",
    "Target",
    "jacobian_product",
    "jacobian_transpose_product",
    "lyapunov_penalty",
    "risk",
    "simulate",
    "stretch",
    "to_cartesian",
    "to_internal",
]
