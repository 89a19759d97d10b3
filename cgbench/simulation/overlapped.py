"""A run that never waits for its device."""

import torch

from cgbench import registry
from cgbench.simulation.dynamics import intact
from cgbench.simulation.run import FURTHEST, Run


class OverlappedRun(Run):
    """A run on a device under a protocol without exchanges of temperature.

    Frames, checkpoints and what a continued run does are those of :class:`Run`. At an output
    interval the frame is checked and copied on the device, without asking what came of it. When no
    replica lives any more, steps that were started since are dropped.
    """

    def _check(self) -> None:
        dynamics, bonds = self._dynamics, registry.constants()
        positions = dynamics.state.positions
        whole = intact(positions, bonds.bond_minimum, bonds.bond_maximum)
        energies = dynamics.result.network_energy + dynamics.result.prior_energy
        dynamics.fail(~(whole & torch.isfinite(energies)))
        lost = positions.abs().amax(dim=(1, 2)) > FURTHEST
        positions.copy_(torch.where(lost[:, None, None], self._last_positions, positions))
        self._last_positions.copy_(positions)

    def _any_alive(self) -> bool:
        # Of the latest frame that was stored; looking at the device would wait for it.
        return not self._recorder.ended
