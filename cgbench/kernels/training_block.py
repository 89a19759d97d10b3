"""Gradient of a force loss by a network's weights for a block of systems, as one function.

A loss on forces F = −∂E/∂x depends on weights θ through the second derivative of the energy:
dL/dθ = Σ dL/dF · ∂F/∂θ, which is the derivative of ∂E/∂θ along the direction −dL/dF of the
positions (B. A. Pearlmutter, Neural Comput. 6, 147, 1994). So four sweeps over the layers are
enough: energy and forces, forward and back, and how both change along that direction. Nothing is
recorded, and a block's arrays stay in the processor's cache. The formulas of the first two sweeps
are those of ``cgbench.kernels.network``; the classes named below are in
``cgbench.kernels.training_arrays``.
"""

from typing import Any

from cgbench.kernels.activation import add_bias_tanh
from cgbench.kernels.compiled import compiled
from cgbench.kernels.pairs import pair_forces, place_pairs, send_messages
from cgbench.kernels.products import add_transposed_product, multiply
from cgbench.kernels.training_pairs import (
    add_slopes,
    add_table_gradient,
    find_system_pairs,
    send_rates,
    weigh_rates,
    weigh_steps,
)


@compiled
def _sum_rows(total: Any, rows: Any) -> None:
    for i in range(rows.shape[0]):
        row = rows[i]
        for k in range(row.shape[0]):
            total[k] += row[k]


@compiled
def _sum(out: Any, one: Any, other: Any, bias: Any) -> None:
    """Fill out = one + other + bias."""
    for i in range(one.shape[0]):
        target, a, b = out[i], one[i], other[i]
        if bias is None:
            for k in range(a.shape[0]):
                target[k] = a[k] + b[k]
        else:
            for k in range(a.shape[0]):
                target[k] = a[k] + b[k] + bias[k]


@compiled
def _pull_tanh(out: Any, gradient: Any, active: Any) -> None:
    """Fill out = gradient ∘ (1 − active²)."""
    for i in range(gradient.shape[0]):
        target, row, value = out[i], gradient[i], active[i]
        for k in range(row.shape[0]):
            target[k] = row[k] - row[k] * value[k] * value[k]


@compiled
def _pull_tanh_rate(rate: Any, gradient: Any, active: Any, active_rate: Any) -> None:
    """Turn the change of a gradient by tanh into that of the gradient by its argument, in place."""
    for i in range(rate.shape[0]):
        target, row, value, change = rate[i], gradient[i], active[i], active_rate[i]
        for k in range(row.shape[0]):
            a, mixed = value[k], value[k] * change[k] * row[k]
            target[k] = target[k] - target[k] * a * a - mixed - mixed


@compiled
def _read_out(rows: Any, factors: Any, gradient: Any) -> None:
    """Fill dE/d(argument of the hidden layer)."""
    for i in range(rows.shape[0]):
        row, target = rows[i], gradient[i]
        for k in range(row.shape[0]):
            target[k] = factors[k] - factors[k] * row[k] * row[k]


@compiled
def _read_out_rate(rows: Any, rates: Any, factors: Any, gradient_rate: Any, total: Any) -> None:
    """Fill its change, and add those of the hidden layer to ``total``, from its argument's."""
    for i in range(rows.shape[0]):
        row, rate, target = rows[i], rates[i], gradient_rate[i]
        for k in range(row.shape[0]):
            change = rate[k] - rate[k] * row[k] * row[k]
            total[k] += change
            mixed = factors[k] * row[k] * change
            target[k] = -mixed - mixed


@compiled
def _follow(target: Any, forces: Any, scale: Any, direction: Any) -> float:
    """Fill the direction −dL/dF; return the sum of squared differences."""
    loss = 0.0
    for i in range(forces.shape[0]):
        for c in range(3):
            difference = target[i, c] - forces[i, c]
            loss += difference * difference
            direction[i, c] = scale * difference
    return loss


@compiled
def force_sweeps(positions: Any, kinds: Any, edges: Any, cutoffs: Any, arrays: Any, work: Any,
                 forces: Any) -> None:  # fmt: skip
    """Fill forces (n_rows, 3), and what the gradient needs.

    Args:
        positions: (n_rows, 3) in Å.
        kinds: (n_rows,) rows of the embedding.
        edges: (n_systems + 1,) first bead of each system, from 0.
        cutoffs: (3,) lower and upper cutoff in Å, intervals of the tables per Å.
        arrays: :class:`Weights`, :class:`Matrices` of the way forward and of the way back, and the
            constants of :func:`cgbench.kernels.activation.rational`.
        work: :class:`TrainingWorkspace`.
        forces: (n_rows, 3) in kcal/mol/Å; filled.
    """
    weights, forward, backward, rational = arrays
    n = positions.shape[0]
    n_layers = weights.tables.shape[0]
    lists = (work.start[: n + 1], work.second)
    place, spread = work.place, work.weights
    n_pairs = find_system_pairs(
        positions, edges, cutoffs[0], cutoffs[1], lists, work.differences, work.distances
    )
    n_intervals = weights.tables.shape[1] - 3
    place_pairs(work.distances[:n_pairs], cutoffs[0], cutoffs[2], n_intervals, place, spread)
    weigh_steps(n_pairs, spread, work.step_weights)
    work.slopes[:n_pairs] = 0
    change = work.change[:n]
    for i in range(n):
        work.features[0, i] = weights.embedded[kinds[i]]
        work.sent[0, i] = weights.first_sent[kinds[i]]
    for layer in range(n_layers):
        features, sent = work.features[layer, :n], work.sent[layer, :n]
        received, active = work.received[layer, :n], work.active[layer, :n]
        if layer > 0:
            multiply(features, forward.send[layer - 1], sent)
        send_messages(lists, place, spread, weights.tables[layer], sent, received)
        multiply(received, forward.receive[layer], active)
        add_bias_tanh(active, weights.receive_bias[layer], rational)
        multiply(active, forward.update[layer], change)
        bias = weights.update_bias[layer]
        if layer + 1 < n_layers:
            _sum(work.features[layer + 1, :n], features, change, bias)
        else:
            _sum(work.final[:n], features, change, bias)
    readout = work.readout[:n]
    multiply(work.final[:n], forward.hidden, readout)
    add_bias_tanh(readout, weights.hidden_bias, rational)
    gradient_readout = work.gradient_readout[n : 2 * n]
    _read_out(readout, weights.energy, gradient_readout)
    multiply(gradient_readout, backward.hidden, work.gradient_features[n_layers - 1, n : 2 * n])
    for back in range(n_layers):
        layer = n_layers - 1 - back
        gradient = work.gradient_features[layer, n : 2 * n]
        pull_active = work.gradient_active[layer, :n]
        pull_bare = work.gradient_bare[layer, n : 2 * n]
        pull = work.gradient_received[layer, :n]
        multiply(gradient, backward.update[layer], pull_active)
        _pull_tanh(pull_bare, pull_active, work.active[layer, :n])
        multiply(pull_bare, backward.receive[layer], pull)
        steps, sent = weights.steps[layer], work.sent[layer, :n]
        add_slopes(lists, place, work.step_weights, steps, sent, pull, work.slopes)
        if layer > 0:
            pulled = work.gradient_sent[layer, n : 2 * n]
            send_messages(lists, place, spread, weights.tables[layer], pull, pulled)
            multiply(pulled, backward.send[layer - 1], change)
            _sum(work.gradient_features[layer - 1, n : 2 * n], gradient, change, None)
    forces[:] = 0
    pair_forces(lists, work.differences, work.distances, work.slopes, forces)


@compiled
def gradient_sweeps(n: int, kinds: Any, arrays: Any, work: Any, gradients: Any) -> None:
    """Add the gradient of the loss by the weights, after :func:`force_sweeps`.

    Args:
        n: Beads of the block.
        kinds: (n,) rows of the embedding.
        arrays: As for :func:`force_sweeps`.
        work: As it was left, with the direction.
        gradients: :class:`Weights` of which each is added to.
    """
    weights, forward, backward, _ = arrays
    n_layers = weights.tables.shape[0]
    lists = (work.start[: n + 1], work.second)
    place, spread, rates, change = work.place, work.weights, work.rates, work.change[:n]
    weigh_rates(lists, work.differences, work.distances, work.direction, work.step_weights, rates)
    for layer in range(n_layers):
        table, steps, sent = weights.tables[layer], weights.steps[layer], work.sent[layer, :n]
        received, active = work.received[layer, n : 2 * n], work.active[layer, n : 2 * n]
        if layer > 0:
            sent_rate = work.sent[layer, n : 2 * n]
            multiply(work.features[layer, n : 2 * n], forward.send[layer - 1], sent_rate)
            send_rates(lists, place, spread, rates, table, steps, sent, sent_rate, received)
        else:
            send_rates(lists, place, spread, rates, table, steps, sent, None, received)
        multiply(received, forward.receive[layer], change)
        _pull_tanh(active, change, work.active[layer, :n])
        following = (
            work.features[layer + 1, n : 2 * n] if layer + 1 < n_layers else (work.final[n : 2 * n])
        )
        if layer > 0:
            multiply(active, forward.update[layer], change)
            _sum(following, work.features[layer, n : 2 * n], change, None)
        else:
            multiply(active, forward.update[layer], following)
    multiply(work.final[n : 2 * n], forward.hidden, work.readout[n : 2 * n])
    _read_out_rate(
        work.readout[:n],
        work.readout[n : 2 * n],
        weights.energy,
        work.gradient_readout[:n],
        gradients.energy,
    )
    add_transposed_product(work.gradient_readout[: 2 * n], work.final[: 2 * n], gradients.hidden)
    _sum_rows(gradients.hidden_bias, work.gradient_readout[:n])
    multiply(work.gradient_readout[:n], backward.hidden, work.gradient_features[n_layers - 1, :n])
    for back in range(n_layers):
        layer = n_layers - 1 - back
        gradient = work.gradient_features[layer, : 2 * n]
        bare, rate = work.gradient_bare[layer, : 2 * n], work.gradient_bare[layer, :n]
        add_transposed_product(gradient, work.active[layer, : 2 * n], gradients.update[layer])
        _sum_rows(gradients.update_bias[layer], gradient[:n])
        multiply(gradient[:n], backward.update[layer], rate)
        _pull_tanh_rate(
            rate,
            work.gradient_active[layer, :n],
            work.active[layer, :n],
            work.active[layer, n : 2 * n],
        )
        add_transposed_product(bare, work.received[layer, : 2 * n], gradients.receive[layer])
        _sum_rows(gradients.receive_bias[layer], rate)
        pull, pull_rate = work.gradient_received[layer, :n], work.gradient_received_rate[:n]
        multiply(rate, backward.receive[layer], pull_rate)
        pulled, sent = work.gradient_sent[layer, :n], work.sent[layer, :n]
        table, steps, scratch = weights.tables[layer], weights.steps[layer], work.scratch
        send_rates(lists, place, spread, rates, table, steps, pull, pull_rate, pulled)
        to_table, to_steps = gradients.tables[layer], gradients.steps[layer]
        if layer > 0:
            sent_rate = work.sent[layer, n : 2 * n]
            add_table_gradient(
                lists,
                place,
                spread,
                rates,
                sent,
                sent_rate,
                pull,
                pull_rate,
                scratch,
                to_table,
                to_steps,
            )
            add_transposed_product(
                work.gradient_sent[layer, : 2 * n],
                work.features[layer, : 2 * n],
                gradients.send[layer - 1],
            )
            multiply(pulled, backward.send[layer - 1], change)
            _sum(work.gradient_features[layer - 1, :n], gradient[:n], change, None)
        else:
            add_table_gradient(
                lists,
                place,
                spread,
                rates,
                sent,
                None,
                pull,
                pull_rate,
                scratch,
                to_table,
                to_steps,
            )
            for i in range(n):
                kind = kinds[i]
                sums, row = gradients.embedded[kind], gradient[i]
                for k in range(row.shape[0]):
                    sums[k] += row[k]
                sums, row = gradients.first_sent[kind], pulled[i]
                for k in range(row.shape[0]):
                    sums[k] += row[k]


@compiled
def training_block(
    positions: Any, kinds: Any, edges: Any, cutoffs: Any, arrays: Any, work: Any,
    target: Any, scale: Any, forces: Any, gradients: Any, wanted: bool,
) -> float:  # fmt: skip
    """Fill forces, add the gradient of the loss, return the sum of squared differences.

    Args:
        positions: As for :func:`force_sweeps`, like the five arguments after it.
        kinds: As said.
        edges: As said.
        cutoffs: As said.
        arrays: As said.
        work: As said.
        target: (n_rows, 3) forces to match.
        scale: Derivative of the loss by the half of a squared difference.
        forces: (n_rows, 3) filled.
        gradients: :class:`Weights` that are added to.
        wanted: Whether they are.
    """
    force_sweeps(positions, kinds, edges, cutoffs, arrays, work, forces)
    loss = _follow(target, forces, scale, work.direction)
    if wanted:
        gradient_sweeps(positions.shape[0], kinds, arrays, work, gradients)
    return loss
