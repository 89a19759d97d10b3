"""Samplers: models that draw structures of a chain from its sequence, without dynamics."""

from cgbench.nemo.features import AMINO_ACIDS, Profile, encode
from cgbench.samplers.clusters import Clusters, cluster_models
from cgbench.samplers.conformance import SamplerConformanceReport, check_sampler
from cgbench.samplers.contract import (
    Sampler,
    SamplerNetwork,
    SamplerSpec,
    TrainedOnStructures,
)
from cgbench.samplers.files import is_sampler, load_sampler, sampler_hash, save_sampler
from cgbench.samplers.learned import LearnedSampler
from cgbench.samplers.profiles import profile_hash, read_profile

__all__ = [
    "AMINO_ACIDS",
    "Clusters",
    "LearnedSampler",
    "Profile",
    "Sampler",
    "SamplerConformanceReport",
    "SamplerNetwork",
    "SamplerSpec",
    "TrainedOnStructures",
    "check_sampler",
    "cluster_models",
    "encode",
    "is_sampler",
    "load_sampler",
    "profile_hash",
    "read_profile",
    "sampler_hash",
    "save_sampler",
]
