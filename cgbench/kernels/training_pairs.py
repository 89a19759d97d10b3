"""Pairs of beads in training: the loops of ``pairs``, and how they change along a direction.

A rate is the change of a number along a direction of the positions, such as ``sent_rate`` of what
a bead sends. Systems may differ in size; their beads follow one another.
"""

from typing import Any

from cgbench.kernels.compiled import compiled


@compiled
def find_system_pairs(
    positions: Any, edges: Any, lower: Any, upper: Any, lists: Any, differences: Any, distances: Any
) -> int:
    """List the pairs within the cutoffs, system after system; return how many there are.

    Args:
        positions: (n_beads, 3) in Å.
        edges: (n_systems + 1,) first bead of each system, and the end.
        lower: Å; pairs at this distance or closer are left out.
        upper: Å; pairs at this distance or farther are left out.
        lists: Start (n_beads + 1,) of the pairs of each first bead, and second (n_pairs,), the
            other bead of each pair; both filled.
        differences: (n_pairs, 3) position of the first less that of the second; filled.
        distances: (n_pairs,) filled.
    """
    start, second = lists
    least, most = lower * lower, upper * upper
    found = 0
    for s in range(edges.shape[0] - 1):
        for i in range(edges[s], edges[s + 1]):
            start[i] = found
            x, y, z = positions[i, 0], positions[i, 1], positions[i, 2]
            for j in range(i + 1, edges[s + 1]):
                dx, dy, dz = x - positions[j, 0], y - positions[j, 1], z - positions[j, 2]
                squared = dx * dx + dy * dy + dz * dz
                if squared > least and squared < most:
                    second[found] = j
                    differences[found, 0] = dx
                    differences[found, 1] = dy
                    differences[found, 2] = dz
                    distances[found] = squared
                    found += 1
    start[edges[edges.shape[0] - 1]] = found
    for p in range(found):
        distances[p] **= 0.5
    return found


@compiled
def weigh_steps(n_pairs: int, weights: Any, step_weights: Any) -> None:
    """Weigh steps from coefficient to coefficient, three for the slope of a filter by distance.

    The slope of a spline is a mixture of differences of its coefficients. Taken from rounded
    coefficients they would lose digits, so they are kept as a table of their own.

    Args:
        n_pairs: Number of pairs.
        weights: (n_pairs, 8) of :func:`cgbench.kernels.pairs.place_pairs`.
        step_weights: (n_pairs, 3) filled.
    """
    for p in range(n_pairs):
        step_weights[p, 0] = -weights[p, 4]
        step_weights[p, 1] = weights[p, 6] + weights[p, 7]
        step_weights[p, 2] = weights[p, 7]


@compiled
def weigh_rates(
    lists: Any, differences: Any, distances: Any, direction: Any, step_weights: Any, rates: Any
) -> None:
    """Weigh steps for the change of filters along a direction.

    Args:
        lists: Start and second of :func:`find_system_pairs`.
        differences: (n_pairs, 3).
        distances: (n_pairs,).
        direction: (n_beads, 3) change of the positions.
        step_weights: (n_pairs, 3) of :func:`weigh_steps`.
        rates: (n_pairs, 3) weights of the change of the filter; filled.
    """
    start, second = lists
    for i in range(start.shape[0] - 1):
        for p in range(start[i], start[i + 1]):
            j = second[p]
            rate = (direction[i, 0] - direction[j, 0]) * differences[p, 0]
            rate += (direction[i, 1] - direction[j, 1]) * differences[p, 1]
            rate += (direction[i, 2] - direction[j, 2]) * differences[p, 2]
            rate /= distances[p]
            for c in range(3):
                rates[p, c] = step_weights[p, c] * rate


@compiled
def add_slopes(
    lists: Any, place: Any, step_weights: Any, steps: Any, sent: Any, pull: Any, slopes: Any
) -> None:
    """Add the slope of the energy by each pair's distance.

    Args:
        lists: Start and second of :func:`find_system_pairs`.
        place: (n_pairs,) rows of the table.
        step_weights: (n_pairs, 3).
        steps: (n_rows − 1, n_filters) differences of the coefficients of the filters.
        sent: (n_beads, n_filters).
        pull: (n_beads, n_filters) gradient by what was received.
        slopes: (n_pairs,) dE/dr; added to.
    """
    start, second = lists
    for i in range(start.shape[0] - 1):
        mine, pull_mine = sent[i], pull[i]
        for p in range(start[i], start[i + 1]):
            other, pull_other = sent[second[p]], pull[second[p]]
            e, f, g = step_weights[p, 0], step_weights[p, 1], step_weights[p, 2]
            q = place[p]
            da, db, dc = steps[q], steps[q + 1], steps[q + 2]
            slope = slopes[p]
            for k in range(mine.shape[0]):
                change = e * da[k] + f * db[k] + g * dc[k]
                slope += change * (pull_mine[k] * other[k] + pull_other[k] * mine[k])
            slopes[p] = slope


@compiled
def send_rates(
    lists: Any,
    place: Any,
    weights: Any,
    rates: Any,
    table: Any,
    steps: Any,
    sent: Any,
    sent_rate: Any,
    received_rate: Any,
) -> None:
    """Sum the changes of messages: Σ_j (W ∘ rate of sent_j + rate of W ∘ sent_j) for bead i.

    Args:
        lists: Start and second of :func:`find_system_pairs`.
        place: (n_pairs,) rows of the table.
        weights: (n_pairs, 8).
        rates: (n_pairs, 3) of :func:`weigh_rates`.
        table: (n_rows, n_filters) spline coefficients of the filters.
        steps: (n_rows − 1, n_filters) their differences.
        sent: (n_beads, n_filters).
        sent_rate: The same shape, or None where what is sent does not change.
        received_rate: (n_beads, n_filters); filled.
    """
    start, second = lists
    received_rate[:] = 0
    for i in range(start.shape[0] - 1):
        mine, sum_mine = sent[i], received_rate[i]
        for p in range(start[i], start[i + 1]):
            j = second[p]
            other, sum_other = sent[j], received_rate[j]
            e, f, g = rates[p, 0], rates[p, 1], rates[p, 2]
            q = place[p]
            da, db, dc = steps[q], steps[q + 1], steps[q + 2]
            if sent_rate is None:
                for k in range(mine.shape[0]):
                    change = e * da[k] + f * db[k] + g * dc[k]
                    sum_mine[k] += change * other[k]
                    sum_other[k] += change * mine[k]
            else:
                a, b, c, d = weights[p, 0], weights[p, 1], weights[p, 2], weights[p, 3]
                ta, tb, tc, td = table[q], table[q + 1], table[q + 2], table[q + 3]
                rate_mine, rate_other = sent_rate[i], sent_rate[j]
                for k in range(mine.shape[0]):
                    change = e * da[k] + f * db[k] + g * dc[k]
                    value = a * ta[k] + b * tb[k] + c * tc[k] + d * td[k]
                    sum_mine[k] += value * rate_other[k] + change * other[k]
                    sum_other[k] += value * rate_mine[k] + change * mine[k]


@compiled
def add_table_gradient(
    lists: Any,
    place: Any,
    weights: Any,
    rates: Any,
    sent: Any,
    sent_rate: Any,
    pull: Any,
    pull_rate: Any,
    scratch: Any,
    gradient: Any,
    gradient_steps: Any,
) -> None:
    """Add the gradient to the coefficients of a table and to their differences.

    The energy's gradient by the filter of a pair is pull_i ∘ sent_j + pull_j ∘ sent_i. Its change
    is spread over the four coefficients of the filter, itself over the three steps of its change.

    Args:
        lists: Start and second of :func:`find_system_pairs`.
        place: (n_pairs,) rows of the table.
        weights: (n_pairs, 8).
        rates: (n_pairs, 3) of :func:`weigh_rates`.
        sent: (n_beads, n_filters).
        sent_rate: Its change, or None where it does not change.
        pull: (n_beads, n_filters) gradient by what was received.
        pull_rate: Its change.
        scratch: (2, n_filters).
        gradient: (n_rows, n_filters); added to.
        gradient_steps: (n_rows − 1, n_filters); added to.
    """
    start, second = lists
    plain, changed = scratch[0], scratch[1]
    for i in range(start.shape[0] - 1):
        mine, pull_mine, pull_rate_mine = sent[i], pull[i], pull_rate[i]
        for p in range(start[i], start[i + 1]):
            j = second[p]
            other, pull_other, pull_rate_other = sent[j], pull[j], pull_rate[j]
            if sent_rate is None:
                for k in range(mine.shape[0]):
                    s, t = mine[k], other[k]
                    plain[k] = pull_mine[k] * t + pull_other[k] * s
                    changed[k] = pull_rate_mine[k] * t + pull_rate_other[k] * s
            else:
                rate_mine, rate_other = sent_rate[i], sent_rate[j]
                for k in range(mine.shape[0]):
                    s, t, u, v = mine[k], other[k], pull_mine[k], pull_other[k]
                    plain[k] = u * t + v * s
                    changed[k] = (
                        pull_rate_mine[k] * t
                        + pull_rate_other[k] * s
                        + u * rate_other[k]
                        + v * rate_mine[k]
                    )
            q = place[p]
            for c in range(4):
                row, weight = gradient[q + c], weights[p, c]
                for k in range(mine.shape[0]):
                    row[k] += weight * changed[k]
            for c in range(3):
                row, weight = gradient_steps[q + c], rates[p, c]
                for k in range(mine.shape[0]):
                    row[k] += weight * plain[k]
