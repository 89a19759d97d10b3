"""cgbench: data, baselines and one evaluation harness for coarse-grained protein potentials."""

__version__ = "0.1.0"
