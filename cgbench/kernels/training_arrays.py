"""Arrays that the loops of training work on: weights, their gradients, and room to work in."""

from typing import Any, NamedTuple

import numpy as np

from cgbench.kernels.compiled import aligned


class Weights(NamedTuple):
    """Weights of a network, arrays of one precision; layers come first.

    ``send`` and the gradient to it have no layer 0: what beads send in it is ``first_sent``.

    Attributes:
        tables: (n_layers, n_intervals + 3, n_filters) spline coefficients of the filters.
        steps: (n_layers, n_intervals + 2, n_filters) their differences.
        embedded: (n_kinds, n_features) features before the first layer.
        first_sent: (n_kinds, n_filters) what beads send in the first layer.
        send: (n_layers − 1, n_filters, n_features).
        receive: (n_layers, n_features, n_filters).
        receive_bias: (n_layers, n_features).
        update: (n_layers, n_features, n_features).
        update_bias: (n_layers, n_features).
        hidden: (n_hidden, n_features) of the energy's read-out.
        hidden_bias: (n_hidden,).
        energy: (n_hidden,) kcal/mol.
    """

    tables: Any
    steps: Any
    embedded: Any
    first_sent: Any
    send: Any
    receive: Any
    receive_bias: Any
    update: Any
    update_bias: Any
    hidden: Any
    hidden_bias: Any
    energy: Any


class Matrices(NamedTuple):
    """Matrices of :class:`Weights`, packed by :func:`cgbench.kernels.products.packed`.

    Those of the way forward have their last two axes exchanged before.
    """

    send: Any
    receive: Any
    update: Any
    hidden: Any


class TrainingWorkspace(NamedTuple):
    """Arrays that one thread works in; made once.

    Where there are two of everything, a value and its change follow one another in 2 n_rows rows of
    which as many are used as needed, so that a gradient by a matrix is one product. Gradients have
    the change first.
    """

    start: Any
    second: Any
    place: Any
    differences: Any
    distances: Any
    weights: Any
    step_weights: Any
    rates: Any
    slopes: Any
    direction: Any
    features: Any  # (n_layers, 2 n_rows, n_features) going into each layer
    sent: Any  # (n_layers, 2 n_rows, n_filters)
    received: Any  # (n_layers, 2 n_rows, n_filters)
    active: Any  # (n_layers, 2 n_rows, n_features)
    final: Any  # (2 n_rows, n_features)
    readout: Any  # (2 n_rows, n_hidden)
    gradient_readout: Any  # (2 n_rows, n_hidden)
    gradient_features: Any  # (n_layers, 2 n_rows, n_features) coming out of each layer
    gradient_active: Any  # (n_layers, n_rows, n_features)
    gradient_bare: Any  # (n_layers, 2 n_rows, n_features) before the non-linearity
    gradient_received: Any  # (n_layers, n_rows, n_filters)
    gradient_received_rate: Any  # (n_rows, n_filters)
    gradient_sent: Any  # (n_layers, 2 n_rows, n_filters)
    change: Any  # (n_rows, n_features)
    scratch: Any  # (2, n_filters)


def training_workspace(weights: Weights, n_rows: int, n_pairs: int) -> TrainingWorkspace:
    """Return a workspace for blocks of up to so many beads and pairs."""
    dtype = weights.embedded.dtype
    n_layers, n_features, n_filters = weights.receive.shape
    n_hidden = len(weights.hidden)

    def empty(*shape: int) -> Any:
        return aligned(shape, dtype)

    both = 2 * n_rows
    return TrainingWorkspace(
        start=np.empty(n_rows + 1, np.int32),
        second=np.empty(n_pairs, np.int32),
        place=np.empty(n_pairs, np.int32),
        differences=empty(n_pairs, 3),
        distances=empty(n_pairs),
        weights=empty(n_pairs, 8),
        step_weights=empty(n_pairs, 3),
        rates=empty(n_pairs, 3),
        slopes=empty(n_pairs),
        direction=empty(n_rows, 3),
        features=empty(n_layers, both, n_features),
        sent=empty(n_layers, both, n_filters),
        received=empty(n_layers, both, n_filters),
        active=empty(n_layers, both, n_features),
        final=empty(both, n_features),
        readout=empty(both, n_hidden),
        gradient_readout=empty(both, n_hidden),
        gradient_features=empty(n_layers, both, n_features),
        gradient_active=empty(n_layers, n_rows, n_features),
        gradient_bare=empty(n_layers, both, n_features),
        gradient_received=empty(n_layers, n_rows, n_filters),
        gradient_received_rate=empty(n_rows, n_filters),
        gradient_sent=empty(n_layers, both, n_filters),
        change=empty(n_rows, n_features),
        scratch=empty(2, n_filters),
    )
