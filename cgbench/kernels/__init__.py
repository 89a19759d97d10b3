"""Compiled loops for simulation: what a graph network and its prior cost on a processor.

Everything here works on plain arrays. The formulas are those of ``cgbench.models`` and
``cgbench.priors``, whose tensor expressions are the twins that tests compare these loops with.
Importing the modules of this package takes a second: import them inside functions.
"""
