"""Pairs of beads of replicas of one chain: which they are, their messages and their slopes."""

from typing import Any

from cgbench.kernels.compiled import compiled


@compiled
def find_pairs(
    positions: Any, lower: Any, upper: Any, lists: Any, differences: Any, distances: Any
) -> int:
    """List the pairs within the cutoffs, replica after replica; return how many there are.

    Args:
        positions: (n_replicas, n_beads, 3) in Å.
        lower: Å; pairs at this distance or closer are left out.
        upper: Å; pairs at this distance or farther are left out.
        lists: Start (n_rows + 1,) of the pairs of each first bead, and second (n_pairs,), the other
            bead of each pair, as rows of the flattened beads; both filled.
        differences: (n_pairs, 3) position of the first less that of the second; filled.
        distances: (n_pairs,) filled.
    """
    start, second = lists
    n_replicas, n_beads, _ = positions.shape
    least, most = lower * lower, upper * upper
    found = 0
    for r in range(n_replicas):
        here = positions[r]
        for i in range(n_beads):
            row = r * n_beads + i
            start[row] = found
            x, y, z = here[i, 0], here[i, 1], here[i, 2]
            for j in range(i + 1, n_beads):
                dx, dy, dz = x - here[j, 0], y - here[j, 1], z - here[j, 2]
                squared = dx * dx + dy * dy + dz * dz
                if squared > least and squared < most:
                    second[found] = r * n_beads + j
                    differences[found, 0] = dx
                    differences[found, 1] = dy
                    differences[found, 2] = dz
                    distances[found] = squared
                    found += 1
    start[n_replicas * n_beads] = found
    for p in range(found):
        distances[p] **= 0.5
    return found


@compiled
def place_pairs(
    distances: Any, lower: Any, per_spacing: Any, n_intervals: int, place: Any, weights: Any
) -> None:
    """Look up where distances fall in a table of splines.

    Args:
        distances: (n_pairs,) in Å, within the cutoffs.
        lower: Distance of the first knot.
        per_spacing: Intervals per Å.
        n_intervals: Number of intervals.
        place: (n_pairs,) first of the four rows of each; filled.
        weights: (n_pairs, 8) weights of values and of slopes by distance; filled.
    """
    one = per_spacing / per_spacing
    two, three = one + one, one + one + one
    four, sixth = two + two, one / (three + three)
    per_slope = per_spacing * sixth
    for p in range(distances.shape[0]):
        scaled = (distances[p] - lower) * per_spacing
        # Rounding may carry a distance just inside the upper cutoff onto the last knot.
        interval = min(int(scaled), n_intervals - 1)
        t = scaled - distances.dtype.type(interval)
        s = one - t
        place[p] = interval
        weights[p, 0] = s * s * s * sixth
        weights[p, 1] = (three * t * t * (t - two) + four) * sixth
        weights[p, 2] = (three * s * s * (s - two) + four) * sixth
        weights[p, 3] = t * t * t * sixth
        weights[p, 4] = -three * s * s * per_slope
        weights[p, 5] = three * t * (three * t - four) * per_slope
        weights[p, 6] = three * s * (four - three * s) * per_slope
        weights[p, 7] = three * t * t * per_slope


@compiled
def send_messages(
    lists: Any, place: Any, weights: Any, table: Any, sent: Any, received: Any
) -> None:
    """Sum filtered messages: received_i = Σ_j W(r_ij) ∘ sent_j, each pair once for both beads.

    Args:
        lists: Start and second of :func:`find_pairs`.
        place: (n_pairs,) rows of the table.
        weights: (n_pairs, 8).
        table: (n_rows, n_filters) spline coefficients of the filters.
        sent: (n_beads, n_filters).
        received: (n_beads, n_filters); filled.
    """
    start, second = lists
    received[:] = 0
    for i in range(start.shape[0] - 1):
        mine, sum_mine = sent[i], received[i]
        for p in range(start[i], start[i + 1]):
            other, sum_other = sent[second[p]], received[second[p]]
            a, b, c, d = weights[p, 0], weights[p, 1], weights[p, 2], weights[p, 3]
            q = place[p]
            ta, tb, tc, td = table[q], table[q + 1], table[q + 2], table[q + 3]
            for k in range(mine.shape[0]):
                value = a * ta[k] + b * tb[k] + c * tc[k] + d * td[k]
                sum_mine[k] += value * other[k]
                sum_other[k] += value * mine[k]


@compiled
def pull_back(
    lists: Any,
    place: Any,
    weights: Any,
    table: Any,
    sent: Any,
    gradient: Any,
    slopes: Any,
    gradient_sent: Any,
) -> None:
    """Add the slope of the energy by each pair's distance, and take the gradient to what was sent.

    Args:
        lists: Start and second of :func:`find_pairs`.
        place: (n_pairs,) rows of the table.
        weights: (n_pairs, 8).
        table: (n_rows, n_filters) spline coefficients of the filters.
        sent: (n_beads, n_filters).
        gradient: (n_beads, n_filters) of the energy by what was received.
        slopes: (n_pairs,) dE/dr; added to.
        gradient_sent: (n_beads, n_filters) of the energy by ``sent``; filled, or None for the
            layer whose senders depend on nothing.
    """
    start, second = lists
    if gradient_sent is not None:
        gradient_sent[:] = 0
    for i in range(start.shape[0] - 1):
        mine, pull_mine = sent[i], gradient[i]
        for p in range(start[i], start[i + 1]):
            j = second[p]
            other, pull_other = sent[j], gradient[j]
            e, f, g, h = weights[p, 4], weights[p, 5], weights[p, 6], weights[p, 7]
            q = place[p]
            ta, tb, tc, td = table[q], table[q + 1], table[q + 2], table[q + 3]
            slope = slopes[p]
            if gradient_sent is None:
                for k in range(mine.shape[0]):
                    change = e * ta[k] + f * tb[k] + g * tc[k] + h * td[k]
                    slope += change * (pull_mine[k] * other[k] + pull_other[k] * mine[k])
            else:
                a, b, c, d = weights[p, 0], weights[p, 1], weights[p, 2], weights[p, 3]
                sum_mine, sum_other = gradient_sent[i], gradient_sent[j]
                for k in range(mine.shape[0]):
                    u, v, w, x = ta[k], tb[k], tc[k], td[k]
                    change = e * u + f * v + g * w + h * x
                    slope += change * (pull_mine[k] * other[k] + pull_other[k] * mine[k])
                    value = a * u + b * v + c * w + d * x
                    sum_mine[k] += value * pull_other[k]
                    sum_other[k] += value * pull_mine[k]
            slopes[p] = slope


@compiled
def pair_forces(lists: Any, differences: Any, distances: Any, slopes: Any, forces: Any) -> None:
    """Add the forces of pair slopes to forces (n_beads, 3)."""
    start, second = lists
    for i in range(start.shape[0] - 1):
        for p in range(start[i], start[i + 1]):
            j = second[p]
            pull = slopes[p] / distances[p]
            for c in range(3):
                forces[i, c] -= pull * differences[p, c]
                forces[j, c] += pull * differences[p, c]
