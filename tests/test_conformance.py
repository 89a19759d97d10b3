"""The conformance suite on good potentials, and on potentials with one fault each."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from toy_networks import TYPES, small_potential, small_prior

from cgbench.errors import ValidationError
from cgbench.models import (
    ChainResult,
    ConformanceReport,
    NetworkPotential,
    Potential,
    PotentialSpec,
    check_potential,
)
from cgbench.models.conformance import CHECKS, describe
from cgbench.testing.conformance import PotentialConformance
from cgbench.testing.strategies import random_chains

FRAMES = torch.tensor(random_chains(6, len(TYPES), 21), dtype=torch.float32)
SYSTEMS = {
    "long": (torch.tensor(TYPES), FRAMES),
    "short": (torch.tensor(TYPES[:7]), FRAMES[:, :7] + 1.0),
}
MEASURED = tuple(name for name in CHECKS if name != "throughput")
#: The search for jumps takes longer than all other checks together.
QUICK = tuple(name for name in MEASURED if name != "smoothness")

Result = tuple[Tensor, Tensor]
Fault = Callable[[Potential, Tensor, Tensor, Tensor], Any]


class Faulty(torch.nn.Module):
    """A good potential whose call goes through a fault; it has no path for chains."""

    def __init__(self, fault: Fault, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.base = small_potential(dtype=dtype)
        self.spec = self.base.spec
        self.fault = fault

    def forward(self, bead_types: Tensor, pos: Tensor, batch: Tensor) -> Any:
        return self.fault(self.base, bead_types, pos, batch)


def checked(
    potential: Potential, checks: tuple[str, ...] = MEASURED, **options: Any
) -> ConformanceReport:
    return check_potential(potential, SYSTEMS, checks=checks, **options)


def failures(fault: Fault, checks: tuple[str, ...] = QUICK, **options: Any) -> set[str]:
    report = checked(Faulty(fault), checks, **options)
    assert not report.passed
    return {check.name for check in report.failed}


def pair_term(
    base: Potential,
    types: Tensor,
    pos: Tensor,
    batch: Tensor,
    function: Callable[[Tensor], Tensor],
    *,
    apart: bool = True,
) -> Result:
    """Add a function of all distances within systems, with forces by automatic differentiation."""
    energy, forces = base(types, pos, batch)
    with torch.enable_grad():
        leaf = pos.detach().clone().requires_grad_()
        same = batch[:, None] == batch[None, :] if apart else torch.ones(1, 1, dtype=torch.bool)
        first, second = (same.expand(len(pos), len(pos)).triu(1)).nonzero(as_tuple=True)
        distance = (leaf[first] - leaf[second]).norm(dim=1)
        extra = torch.zeros_like(energy).index_add(0, batch[first], function(distance))
        (gradient,) = torch.autograd.grad(extra.sum(), leaf)
    return energy + extra.detach(), forces - gradient


def centred(pos: Tensor, batch: Tensor) -> Tensor:
    count = torch.bincount(batch)[:, None]
    mean = pos.new_zeros(len(count), 3).index_add(0, batch, pos) / count
    return pos - mean[batch]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_good_potential_passes_everything(dtype: torch.dtype) -> None:
    report = check_potential(small_potential(dtype=dtype), SYSTEMS)
    assert report.passed, [describe(check) for check in report.failed]
    assert [check.name for check in report.checks] == list(CHECKS)
    assert report.throughput is not None
    assert report.throughput > 1
    assert report.systems == ("long", "short")
    assert ConformanceReport.model_validate_json(report.model_dump_json()) == report
    report.require("model.pt")


def test_prior_alone_passes() -> None:
    prior_only = NetworkPotential(None, small_prior(), PotentialSpec(name="prior"))
    assert checked(prior_only).passed


def test_energies_in_a_column_pass() -> None:
    def column(base: Potential, *inputs: Tensor) -> Result:
        energy, forces = base(*inputs)
        return energy[:, None], forces

    assert checked(Faulty(column)).passed


def test_a_potential_of_single_precision_only_passes() -> None:
    class SinglePrecision:
        spec = PotentialSpec(name="single", cutoff=12.0)
        base = small_potential()

        def __call__(self, types: Tensor, pos: Tensor, batch: Tensor) -> Result:
            if pos.dtype != torch.float32:
                raise TypeError("single precision only")
            return self.base(types, pos, batch)

    report = checked(SinglePrecision())
    assert report.passed, [describe(check) for check in report.failed]
    assert "single precision" in next(
        check.detail for check in report.checks if check.name == "forces_are_gradient"
    )


def test_wrong_sign() -> None:
    def fault(base: Potential, *inputs: Tensor) -> Result:
        energy, forces = base(*inputs)
        return energy, -forces

    assert failures(fault) == {"forces_are_gradient"}


def test_force_without_energy() -> None:
    def fault(base: Potential, types: Tensor, pos: Tensor, batch: Tensor) -> Result:
        energy, forces = base(types, pos, batch)
        tangent = forces.roll(1, dims=1).detach() * 0.001
        return energy, forces + tangent

    assert "forces_are_gradient" in failures(fault)


def test_one_bead_in_a_hundred_wrong() -> None:
    def fault(base: Potential, types: Tensor, pos: Tensor, batch: Tensor) -> Result:
        energy, forces = base(types, pos, batch)
        first = torch.cat([batch.new_ones(1), batch.diff()]) > 0
        return energy, torch.where(first[:, None], 1.01 * forces, forces)

    assert failures(fault) == {"forces_are_gradient"}


def test_not_a_number() -> None:
    def fault(base: Potential, *inputs: Tensor) -> Result:
        energy, forces = base(*inputs)
        return energy, torch.where(forces > 0, forces, torch.nan)

    assert {"finite", "finite_extremes", "forces_are_gradient"} <= failures(fault)


def test_not_a_number_where_beads_clash() -> None:
    def fault(base: Potential, types: Tensor, pos: Tensor, batch: Tensor) -> Result:
        return pair_term(base, types, pos, batch, lambda r: 1e-9 * (r - 1.2).log())

    assert "finite_extremes" in failures(fault)
    assert "finite" not in failures(fault)


def test_systems_that_see_each_other() -> None:
    def fault(base: Potential, types: Tensor, pos: Tensor, batch: Tensor) -> Result:
        return pair_term(base, types, pos, batch, lambda r: torch.exp(-r), apart=False)

    assert {"no_leak", "single_equals_batch", "mixed_sizes"} <= failures(fault)


def test_energies_normalised_over_the_batch() -> None:
    def fault(base: Potential, *inputs: Tensor) -> Result:
        energy, forces = base(*inputs)
        return energy - 0.01 * energy.mean(), forces

    assert {"no_leak", "single_equals_batch"} <= failures(fault)


def test_dependence_on_place() -> None:
    def fault(base: Potential, types: Tensor, pos: Tensor, batch: Tensor) -> Result:
        energy, forces = base(types, pos, batch)
        push = torch.tensor([0.01, 0.0, 0.0]).to(pos)
        return energy + torch.zeros_like(energy).index_add(0, batch, pos @ push), forces - push

    # Moving a system away, as the leak check does, does not hide it.
    assert failures(fault) == {"translation", "rotation"}


def test_dependence_on_orientation() -> None:
    def fault(base: Potential, types: Tensor, pos: Tensor, batch: Tensor) -> Result:
        energy, forces = base(types, pos, batch)
        stretch = centred(pos, batch) * torch.tensor([0.1, 0.0, 0.0]).to(pos)
        extra = torch.zeros_like(energy).index_add(0, batch, 5.0 * stretch.square().sum(1))
        return energy + extra, forces - stretch

    assert failures(fault) == {"rotation"}


def test_dependence_on_the_number_of_the_system() -> None:
    def fault(base: Potential, types: Tensor, pos: Tensor, batch: Tensor) -> Result:
        energy, forces = base(types, pos, batch)
        factor = 1.0 + 0.001 * torch.arange(len(energy)).to(pos)
        return energy * factor, forces * factor[batch][:, None]

    assert {"system_order", "single_equals_batch"} <= failures(fault)


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(lambda r: 0.1 * (r < 12.0) * r, id="energy at the cutoff"),
        pytest.param(lambda r: 0.01 * (12.0 - r).clamp(min=0), id="force at the cutoff"),
        pytest.param(lambda r: 0.01 * (3.0 - r).clamp(min=0), id="force at the lower cutoff"),
        pytest.param(lambda r: 0.1 * (r < 7.3) + 0 * r, id="energy elsewhere"),
        pytest.param(lambda r: 0.3 * (r - 8.1).abs(), id="force elsewhere"),
    ],
)
def test_jumps(function: Callable[[Tensor], Tensor]) -> None:
    def fault(base: Potential, types: Tensor, pos: Tensor, batch: Tensor) -> Result:
        return pair_term(base, types, pos, batch, function)

    assert failures(fault, MEASURED, cutoffs=(3.0, 12.0)) == {"smoothness"}


def test_smooth_terms_are_no_jumps() -> None:
    def fault(base: Potential, types: Tensor, pos: Tensor, batch: Tensor) -> Result:
        return pair_term(base, types, pos, batch, lambda r: 20.0 * torch.exp(-((r - 7.0) ** 2) * 5))

    assert checked(Faulty(fault), cutoffs=(3.0, 12.0)).passed


def test_random_results_and_changed_arguments() -> None:
    def noisy(base: Potential, *inputs: Tensor) -> Result:
        energy, forces = base(*inputs)
        return energy + 0.01 * torch.rand_like(energy), forces

    def centring(base: Potential, types: Tensor, pos: Tensor, batch: Tensor) -> Result:
        result = base(types, pos, batch)
        pos.sub_(pos.mean(0))
        return result

    assert "repeatable" in failures(noisy)
    assert "repeatable" in failures(centring)


def test_one_size_only() -> None:
    def fault(base: Potential, types: Tensor, pos: Tensor, batch: Tensor) -> Result:
        n_systems = int(batch.max()) + 1
        return base(types, pos.reshape(n_systems, -1, 3).reshape(-1, 3), batch)

    only_one = {"long": SYSTEMS["long"]}
    report = check_potential(Faulty(fault), only_one, checks=MEASURED)
    (failed,) = report.failed
    assert failed.name == "mixed_sizes"
    assert "the call failed" in failed.detail


def test_chains_that_differ_from_the_call() -> None:
    class OffByALittle(NetworkPotential):
        def chains(self, bead_types: Tensor, pos: Tensor) -> ChainResult:
            result = super().chains(bead_types, pos)
            return result._replace(forces=1.001 * result.forces)

    base = small_potential()
    potential = OffByALittle(base.network, base.prior, base.spec)
    assert {check.name for check in checked(potential).failed} == {"fast_path"}


def _raises(base: Potential, *inputs: Tensor) -> Result:
    raise RuntimeError("no kernel image")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda energy, forces: (energy.sum(), forces), "wrong shape of energy"),
        (lambda energy, forces: (energy, forces.reshape(-1)), "wrong shape of forces"),
        (lambda energy, forces: (energy, forces[:, :2]), r"expected: \(10, 3\)"),
        (lambda energy, forces: (energy, forces.tolist()), "found:    list"),
        (lambda energy, forces: energy, "does not return two tensors"),
        (lambda energy, forces: (energy, forces.half()), "another precision"),
    ],
)
def test_wrong_interface_is_one_clear_error(change: Callable[..., Any], message: str) -> None:
    report = checked(Faulty(lambda base, *inputs: change(*base(*inputs))))
    assert [check.name for check in report.checks] == ["interface"]
    with pytest.raises(ValidationError, match=message) as caught:
        report.require("model.pt")
    assert str(caught.value).startswith("model.pt: not a conforming potential")
    assert caught.value.exit_code == 4


def test_a_potential_that_raises_is_reported() -> None:
    report = checked(Faulty(_raises))
    with pytest.raises(ValidationError, match="RuntimeError: no kernel image"):
        report.require("model.pt")


def test_the_potential_is_left_as_it_was() -> None:
    potential = small_potential()
    before = {name: tensor.clone() for name, tensor in potential.state_dict().items()}
    checked(potential)
    for name, tensor in potential.state_dict().items():
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize(
    "systems",
    [
        {},
        {"short": (torch.tensor(TYPES[:4]), FRAMES[:, :4])},
        {"flat": (torch.tensor(TYPES), FRAMES[0])},
        {"wrong": (torch.tensor(TYPES[:9]), FRAMES)},
        {"none": (torch.tensor(TYPES), FRAMES[:0])},
    ],
)
def test_structures_that_do_not_fit_are_refused(systems: dict[str, tuple[Tensor, Tensor]]) -> None:
    with pytest.raises(ValidationError, match="structures"):
        check_potential(small_potential(), systems)


class TestSmallPotential(PotentialConformance):
    def make_potential(self) -> Potential:
        return small_potential()

    def make_systems(self) -> Mapping[str, tuple[Tensor, Tensor]]:
        return SYSTEMS


class WrongSign(TestSmallPotential):
    __test__ = False

    def make_potential(self) -> Potential:
        def fault(base: Potential, *inputs: Tensor) -> Result:
            energy, forces = base(*inputs)
            return energy, -forces

        return Faulty(fault)


def test_the_pytest_class_fails_on_a_faulty_potential() -> None:
    WrongSign().test_conformance("finite")
    with pytest.raises(pytest.fail.Exception, match="forces_are_gradient"):
        WrongSign().test_conformance("forces_are_gradient")
    with pytest.raises(pytest.fail.Exception, match="must define make_potential"):
        PotentialConformance().test_conformance("finite")
