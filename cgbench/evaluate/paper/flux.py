"""Reactive flux between two sets of states by transition path theory.

Metzner, Schütte and Vanden-Eijnden, Multiscale Model. Simul. 7, 1192 (2009), for Markov chains;
Noé, Schütte, Vanden-Eijnden, Reich and Weikl, PNAS 106, 19011 (2009), for coarse-grained fluxes and
the share of each pathway.
"""

import itertools
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cgbench.errors import ValidationError

Float = NDArray[np.float64]

_MOST_PATHWAYS: Final = 1000
#: Flux below this share of the whole is rounding.
_LEAST_SHARE: Final = 1e-9


@dataclass(frozen=True)
class ReactiveFlux:
    """Flux of trajectories that leave the source for good and reach the target.

    Attributes:
        committor: (n,) probability of each state to reach the target before the source.
        gross: (n, n) reactive flux from row to column, per lag.
        total: All of it, per lag.
        rate: Passages per lag of a trajectory that was last in the source.
    """

    committor: Float
    gross: Float
    total: float
    rate: float

    @property
    def net(self) -> Float:
        """(n, n) flux that is not undone by the flux the other way, per lag."""
        return np.maximum(self.gross - self.gross.T, 0.0)

    def grouped(self, group: NDArray[np.int64], n_groups: int) -> Float:
        """Return the net flux between groups of states, (n_groups, n_groups), per lag.

        Args:
            group: (n,) group of each state.
            n_groups: Number of groups.
        """
        summed = np.zeros((n_groups, n_groups))
        np.add.at(summed, (group[:, None], group[None, :]), self.gross)
        return np.maximum(summed - summed.T, 0.0)


def reactive_flux(
    transition_matrix: Float,
    stationary: Float,
    source: NDArray[np.bool_],
    target: NDArray[np.bool_],
) -> ReactiveFlux:
    """Return the reactive flux of a reversible chain.

    The forward committor solves Σ_j T_ij q_j = q_i between the sets, with q = 0 in the source and
    1 in the target; the chain is reversible, so the backward committor is 1 − q and the flux is
    f_ij = π_i (1 − q_i) T_ij q_j.

    Args:
        transition_matrix: (n, n), reversible with respect to ``stationary``, connected.
        stationary: (n,) positive.
        source: (n,) mask.
        target: (n,) mask.

    Raises:
        ValidationError: A set is empty, or they share a state.
    """
    if not source.any() or not target.any() or (source & target).any():
        raise ValidationError(
            "reactive flux needs two sets of states",
            expected="both with states, none in common",
            found=f"{int(source.sum())} and {int(target.sum())} states, "
            f"{int((source & target).sum())} in common",
        )
    between = ~(source | target)
    committor = target.astype(np.float64)
    if between.any():
        inner = transition_matrix[np.ix_(between, between)]
        entering = transition_matrix[np.ix_(between, target)].sum(axis=1)
        committor[between] = np.linalg.solve(np.eye(len(inner)) - inner, entering)
    committor = np.clip(committor, 0.0, 1.0)
    backward = 1.0 - committor
    gross = (stationary * backward)[:, None] * transition_matrix * committor[None, :]
    np.fill_diagonal(gross, 0.0)
    # A step that stays reactive from source to source carries nothing: q is 0 there.
    total = float(gross[source].sum())
    return ReactiveFlux(committor, gross, total, total / float(stationary @ backward))


def pathways(net: Float, source: int, target: int) -> list[tuple[tuple[int, ...], float]]:
    """Divide a net flux into pathways, the widest first.

    The pathway of the widest bottleneck is taken out again and again until no flux is left.

    Args:
        net: (n, n) net flux from row to column.
        source: Where it begins.
        target: Where it ends.

    Returns:
        The states of each pathway, and its share of the flux out of the source.
    """
    left = net.copy()
    total = float(left[source].sum())
    found: list[tuple[tuple[int, ...], float]] = []
    while len(found) < _MOST_PATHWAYS:
        path, width = _widest(left, source, target)
        if not path or width <= _LEAST_SHARE * total:
            break
        for begin, end in itertools.pairwise(path):
            left[begin, end] -= width
        found.append((path, width / total))
    return found


def _widest(net: Float, source: int, target: int) -> tuple[tuple[int, ...], float]:
    """Return the path whose narrowest step is widest (Dijkstra's search with another order)."""
    width = np.zeros(len(net))
    width[source] = np.inf
    before = np.full(len(net), -1)
    waiting = np.ones(len(net), dtype=bool)
    while waiting.any():
        state = int(np.where(waiting, width, -1.0).argmax())
        waiting[state] = False
        if state == target or width[state] <= 0.0:
            break
        through = np.minimum(width[state], net[state])
        better = waiting & (through > width)
        width[better], before[better] = through[better], state
    if width[target] <= 0.0:
        return (), 0.0
    path = [target]
    while path[-1] != source:
        path.append(int(before[path[-1]]))
    return tuple(reversed(path)), float(width[target])
