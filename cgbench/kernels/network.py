"""Energy and forces of a graph network on replicas of one chain, as one compiled function.

What dominates is the products of bead features with the layers' weights, one for all beads of a
block of replicas; everything per pair happens in two loops a layer, one forward and one back. The
formulas are those of ``cgbench.models.graph_network``. What is computed of a replica is bitwise the
same in every block: products are those of ``cgbench.kernels.products``, and nothing else crosses
replicas.
"""

from typing import Any, NamedTuple

import numpy as np

from cgbench.kernels.activation import add_bias_tanh, times_tanh_slope
from cgbench.kernels.compiled import aligned, compiled
from cgbench.kernels.pair_vectors import (
    pull_vectors,
    send_vectors,
    slopes_of_vectors,
    summed_slopes,
)
from cgbench.kernels.pairs import find_pairs, pair_forces, place_pairs
from cgbench.kernels.products import add_product, multiply
from cgbench.kernels.vectors import lanes_of


class NetworkArrays(NamedTuple):
    """Weights of a network for one chain, arrays of one precision; layers come first.

    Products are rows times a matrix, so that both a matrix and its transpose are kept. Matrices are
    packed by :func:`cgbench.kernels.products.packed`; their shapes are given as before it. The
    filters are filled up with zeros to whole vectors of the processor.

    Attributes:
        cutoffs: (3,) lower and upper cutoff in Å, intervals of the tables per Å.
        tables: (n_layers, n_intervals + 3, n_filters) spline coefficients of the filters.
        embedded: (n_beads, n_features) features of the beads before the first layer.
        first_sent: (n_beads, n_filters) what they send in it.
        send: (n_layers, n_filters, n_features).
        receive: (n_layers, n_features, n_filters).
        receive_bias: (n_layers, n_features).
        update: (n_layers, n_features, n_features).
        update_bias: (n_layers, n_features).
        send_forward: ``send`` with the last two axes exchanged; so are the next two.
        receive_forward: As said.
        update_forward: As said.
        hidden: (n_hidden, n_features) of the energy's read-out.
        hidden_forward: Its transpose.
        hidden_bias: (n_hidden,).
        energy: (n_hidden,) kcal/mol.
        energy_bias: (1,) kcal/mol for each bead.
    """

    cutoffs: Any
    tables: Any
    embedded: Any
    first_sent: Any
    send: Any
    receive: Any
    receive_bias: Any
    update: Any
    update_bias: Any
    send_forward: Any
    receive_forward: Any
    update_forward: Any
    hidden: Any
    hidden_forward: Any
    hidden_bias: Any
    energy: Any
    energy_bias: Any


class Workspace(NamedTuple):
    """Arrays that one thread works in, for up to ``n_rows`` beads; made once.

    Attributes:
        start: (n_rows + 1,) int32.
        second: (n_pairs,) int32.
        place: (n_pairs,) int32.
        differences: (n_pairs, 3).
        distances: (n_pairs,).
        weights: (n_pairs, 8).
        slopes: (n_pairs,).
        partial: (n_pairs, lanes) sums of parts of the slopes.
        sent: (n_layers, n_rows, n_filters).
        active: (n_layers, n_rows, n_features).
        features: (n_rows, n_features).
        change: (n_rows, n_features).
        received: (n_rows, n_filters).
        pulled: (n_rows, n_filters).
        readout: (n_rows, n_hidden).
    """

    start: Any
    second: Any
    place: Any
    differences: Any
    distances: Any
    weights: Any
    slopes: Any
    partial: Any
    sent: Any
    active: Any
    features: Any
    change: Any
    received: Any
    pulled: Any
    readout: Any


def workspace(arrays: NetworkArrays, n_replicas: int) -> Workspace:
    """Return a workspace for blocks of up to so many replicas."""
    dtype = arrays.embedded.dtype
    n_beads, n_features = arrays.embedded.shape
    n_layers, _, n_filters = arrays.tables.shape
    n_rows, n_pairs = n_replicas * n_beads, n_replicas * n_beads * (n_beads - 1) // 2
    return Workspace(
        start=aligned(n_rows + 1, np.int32),
        second=aligned(n_pairs, np.int32),
        place=aligned(n_pairs, np.int32),
        differences=aligned((n_pairs, 3), dtype),
        distances=aligned(n_pairs, dtype),
        weights=aligned((n_pairs, 8), dtype),
        slopes=aligned(n_pairs, dtype),
        partial=aligned((n_pairs, lanes_of(dtype.itemsize)), dtype),
        sent=aligned((n_layers, n_rows, n_filters), dtype),
        active=aligned((n_layers, n_rows, n_features), dtype),
        features=aligned((n_rows, n_features), dtype),
        change=aligned((n_rows, n_features), dtype),
        received=aligned((n_rows, n_filters), dtype),
        pulled=aligned((n_rows, n_filters), dtype),
        readout=aligned((n_rows, len(arrays.hidden_bias)), dtype),
    )


@compiled
def add_bias(rows: Any, bias: Any) -> None:
    """Add bias (width,) to rows (n, width)."""
    for i in range(rows.shape[0]):
        row = rows[i]
        for k in range(row.shape[0]):
            row[k] += bias[k]


@compiled
def _read_out(arrays: Any, readout: Any, n_beads: int, energies: Any) -> None:
    """Write the energies of replicas, and dE/d(hidden layer) over its activations."""
    for r in range(energies.shape[0]):
        energy = 0.0
        for i in range(r * n_beads, (r + 1) * n_beads):
            row = readout[i]
            bead = arrays.energy_bias[0]
            for k in range(row.shape[0]):
                factor, active = arrays.energy[k], row[k]
                bead += factor * active
                row[k] = factor - factor * active * active
            energy += bead
        energies[r] = energy


@compiled
def network_block(
    positions: Any, arrays: Any, rational: Any, work: Any, energies: Any, forces: Any
) -> None:
    """Write energies and add forces of the network.

    Args:
        positions: (n_replicas, n_beads, 3) in Å.
        arrays: :class:`NetworkArrays`.
        rational: Constants of :func:`cgbench.kernels.activation.rational`.
        work: :class:`Workspace` for at least so many replicas.
        energies: (n_replicas,) float64 in kcal/mol; filled.
        forces: (n_replicas * n_beads, 3) in kcal/mol/Å; added to.
    """
    n_replicas, n_beads, _ = positions.shape
    n_rows = n_replicas * n_beads
    n_layers = arrays.tables.shape[0]
    n_intervals = arrays.tables.shape[1] - 3
    lower, upper, per_spacing = arrays.cutoffs[0], arrays.cutoffs[1], arrays.cutoffs[2]
    lists = (work.start[: n_rows + 1], work.second)
    distances, place, weights = work.distances, work.place, work.weights
    n_pairs = find_pairs(positions, lower, upper, lists, work.differences, distances)
    place_pairs(distances[:n_pairs], lower, per_spacing, n_intervals, place, weights)
    start, second, partial = lists[0], lists[1], work.partial
    lanes = partial.shape[1]
    for p in range(n_pairs):
        for k in range(lanes):
            partial[p, k] = 0
    features, change = work.features[:n_rows], work.change[:n_rows]
    received, pulled = work.received[:n_rows], work.pulled[:n_rows]
    for r in range(n_replicas):
        for i in range(n_beads):
            row = r * n_beads + i
            for k in range(features.shape[1]):
                features[row, k] = arrays.embedded[i, k]
            for k in range(received.shape[1]):
                work.sent[0, row, k] = arrays.first_sent[i, k]
    for layer in range(n_layers):
        sent, active = work.sent[layer, :n_rows], work.active[layer, :n_rows]
        if layer > 0:
            multiply(features, arrays.send_forward[layer], sent)
        send_vectors(start, second, place, weights, arrays.tables[layer], sent, received, lanes)
        multiply(received, arrays.receive_forward[layer], active)
        add_bias_tanh(active, arrays.receive_bias[layer], rational)
        add_product(active, arrays.update_forward[layer], features)
        add_bias(features, arrays.update_bias[layer])
    readout = work.readout[:n_rows]
    multiply(features, arrays.hidden_forward, readout)
    add_bias_tanh(readout, arrays.hidden_bias, rational)
    _read_out(arrays, readout, n_beads, energies)
    # From here on, ``features`` is the gradient of the energy by the features.
    multiply(readout, arrays.hidden, features)
    for back in range(n_layers):
        layer = n_layers - 1 - back
        sent, active = work.sent[layer, :n_rows], work.active[layer, :n_rows]
        multiply(features, arrays.update[layer], change)
        times_tanh_slope(change, active)
        multiply(change, arrays.receive[layer], received)
        table = arrays.tables[layer]
        if layer > 0:
            pull_vectors(
                start, second, place, weights, table, sent, received, partial, pulled, lanes
            )
            add_product(pulled, arrays.send[layer], features)
        else:
            slopes_of_vectors(start, second, place, weights, table, sent, received, partial, lanes)
    summed_slopes(partial, n_pairs, work.slopes)
    pair_forces(lists, work.differences, distances, work.slopes, forces)
