"""Compiled loops: of simulation, of training, and of evaluation where numpy cannot say them.

Everything here works on plain arrays. The formulas of simulation and training are those of
``cgbench.models`` and ``cgbench.priors``, whose tensor expressions are the twins that tests compare
these loops with. Importing the modules of this package takes a second: import them inside
functions.
"""
