"""What the operations on a device read and write, as tensors of one precision on one device."""

from typing import NamedTuple, Protocol

from torch import Tensor


class PairLists(NamedTuple):
    """Pairs within the cutoffs, from the side of each bead; every pair is listed at both.

    A row is a bead of a replica, replica after replica.

    Attributes:
        counts: (n_rows,) int32, neighbours of each row.
        neighbour: (n_rows, n_beads) int32, beads of the same replica in ascending order; what
            follows the first ``counts`` is not read.
        scaled: (n_rows, n_beads) their distances less the lower cutoff, in intervals of the tables.
    """

    counts: Tensor
    neighbour: Tensor
    scaled: Tensor


class PriorArrays(NamedTuple):
    """Parameters of the prior of one chain; padded with zeros where a chain is too short.

    Attributes:
        bond_k: (n_beads,) force constants in kcal/mol/Å², the last one zero.
        bond_r0: (n_beads,) lengths in Å.
        strength: (n_beads, n_beads) factors of r⁻⁶ in kcal·Å⁶/mol, zero where beads do not repel.
        cosine: (n_beads, n_orders) factors of cos nφ in kcal/mol; the last three rows are zero.
        sine: (n_beads, n_orders) factors of sin nφ.
        constants: (4,) squared clash distance in Å², least squared normal in Å⁴, least length in
            Å, and kcal/mol that is added to every energy.
    """

    bond_k: Tensor
    bond_r0: Tensor
    strength: Tensor
    cosine: Tensor
    sine: Tensor
    constants: Tensor


class StepArrays(NamedTuple):
    """The state of Langevin dynamics and what a step needs.

    Attributes:
        positions: (n_replicas, n_beads, 3) in Å.
        velocities: The same shape, in Å/ps.
        forces: The same shape, in kcal/mol/Å.
        alive: (n_replicas,) bool.
        noise: (n_steps, n_replicas, n_beads, 3) standard normals of the steps of a block.
        within: (1,) int64, the step of the block that comes next.
        spread: (n_replicas,) of the noise in the velocities, in Å/ps.
        constants: (3,) velocity by force of half a step, half the time step in ps, and the share of
            the velocity that friction leaves.
    """

    positions: Tensor
    velocities: Tensor
    forces: Tensor
    alive: Tensor
    noise: Tensor
    within: Tensor
    spread: Tensor
    constants: Tensor


class Operations(Protocol):
    """The operations that are not matrix products; two modules implement them."""

    def n_parts(self, n_filters: int) -> int:
        """Return in how many parts the forces of a network are summed."""

    def place_pairs(
        self,
        positions: Tensor,
        cutoffs: Tensor,
        lists: PairLists,
        bead_energy: Tensor,
        energy: Tensor,
        forces: Tensor,
    ) -> None:
        """List pairs and start the sums of energies and forces.

        A replica with a position that is not a number starts with energies and forces that are
        not, so that they never become numbers.

        Args:
            positions: (n_replicas, n_beads, 3) in Å.
            cutoffs: (3,) lower and upper cutoff in Å, intervals of the tables per Å. Pairs exactly
                at a cutoff are left out.
            lists: Filled.
            bead_energy: (1,) kcal/mol of every bead.
            energy: (n_rows,) in kcal/mol; filled with it.
            forces: (n_parts, n_rows, 3) filled with zeros.
        """

    def send_messages(
        self, lists: PairLists, table: Tensor, sent: Tensor, received: Tensor
    ) -> None:
        """Sum filtered messages: received_i = Σ_j W(r_ij) ∘ sent_j.

        Args:
            lists: Of :meth:`place_pairs`.
            table: (n_intervals + 3, n_filters) spline coefficients of the filters.
            sent: (n_rows, n_filters), or (n_beads, n_filters) where all replicas send the same.
            received: (n_rows, n_filters); filled.
        """

    def pull_back(
        self,
        lists: PairLists,
        positions: Tensor,
        cutoffs: Tensor,
        table: Tensor,
        sent: Tensor,
        pull: Tensor,
        forces: Tensor,
        pulled: Tensor | None,
    ) -> None:
        """Add the forces of a layer's filters, and take the gradient to what was sent.

        Args:
            lists: Of :meth:`place_pairs`.
            positions: (n_replicas, n_beads, 3) in Å.
            cutoffs: As for :meth:`place_pairs`.
            table: As for :meth:`send_messages`, like the next.
            sent: As said.
            pull: (n_rows, n_filters) gradient of the energy by what was received.
            forces: (n_parts, n_rows, 3) in kcal/mol/Å; added to.
            pulled: (n_rows, n_filters) gradient by what was sent; filled, or None for the layer
                whose senders depend on nothing.
        """

    def prior_forces(
        self, positions: Tensor, prior: PriorArrays, parts: Tensor, energy: Tensor, forces: Tensor
    ) -> None:
        """Evaluate bonds, dihedrals and repulsion, and add the parts of other forces.

        Args:
            positions: (n_replicas, n_beads, 3) in Å.
            prior: Parameters of the chain.
            parts: (n_parts, n_rows, 3) forces to add; there may be none.
            energy: (n_rows,) in kcal/mol; filled with shares of the prior's energy that sum to it.
            forces: (n_replicas, n_beads, 3) in kcal/mol/Å; filled with all forces.
        """

    def before_forces(self, step: StepArrays) -> None:
        """Do B, A, O and A of a step; forces are still old.

        A replica whose positions stop being finite fails: it and those that failed before keep
        their positions and lose their velocities.

        Args:
            step: Positions, velocities and ``alive`` are changed.
        """

    def after_forces(self, step: StepArrays) -> None:
        """Do the last B of a step with the forces at its positions, and count the step.

        A replica whose forces are not finite fails; those that have failed have neither velocities
        nor forces.

        Args:
            step: Velocities, forces, ``alive`` and ``within`` are changed.
        """
