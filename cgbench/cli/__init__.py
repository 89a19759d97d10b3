"""The command line: one small file per verb, thin over the library."""

from cgbench.cli.main import main

__all__ = ["main"]
