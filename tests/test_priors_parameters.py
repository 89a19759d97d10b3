"""Tables of priors: what is missing, malformed or of another shape is named."""

from typing import Any

import pydantic
import pytest
import torch
from toy_priors import case, random_parameters

from cgbench import config
from cgbench.errors import ValidationError
from cgbench.priors import Prior, PriorParameters


@pytest.mark.parametrize(
    ("types", "message"),
    [
        ([1, 17], r"no bond from bead type 1 \(ALA\) to 17 \(NLE\)"),
        ([1, 99], "no bond from bead type 1 \\(ALA\\) to 99"),
    ],
)
def test_a_missing_bond_is_named(types: list[int], message: str) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        Prior(random_parameters(47), types)
    assert caught.value.exit_code == 4


def test_missing_repulsion_and_dihedrals_are_named() -> None:
    full = random_parameters(53)
    beads = full.model_copy(update={"repulsion": {1: 1.0}})
    with pytest.raises(ValidationError, match=r"no repulsion for bead type 8 \(PRO\)"):
        Prior(beads, [1, 8])
    some = full.model_copy(update={"dihedrals": full.dihedrals[1:]})
    with pytest.raises(ValidationError, match=r"no dihedral terms for bead types 1 \(ALA\) and 1"):
        Prior(some, [1, 1, 1, 1])


@pytest.mark.parametrize("shape", [(6, 3), (2, 5, 3), (2, 6, 2)])
def test_positions_of_another_shape(shape: tuple[int, ...]) -> None:
    prior, _ = case(59, 1, 6)
    with pytest.raises(ValidationError, match="positions do not fit"):
        prior.energy_forces(torch.zeros(shape))
    with pytest.raises(ValidationError, match="floating-point"):
        prior.energies_by_term(torch.zeros(1, 6, 3, dtype=torch.int64))


def test_parameters_survive_json_with_their_fingerprint(tmp_path: Any) -> None:
    parameters = random_parameters(61)
    path = tmp_path / "prior.json"
    config.write_model(path, parameters)
    again = config.read_model(PriorParameters, path)
    assert again == parameters
    assert again.fingerprint == parameters.fingerprint
    assert hash(again) == hash(parameters)
    softer = parameters.model_copy(update={"repulsion": {**parameters.repulsion, 1: 501.0}})
    assert softer != parameters
    assert softer.fingerprint != parameters.fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"},
        {"version": 2},
        {"bonds": {"1": {"k": 1.0, "r0": 3.8}}},
        {"bonds": {"1-1": {"k": -1.0, "r0": 3.8}}},
        {"bonds": {"1-1": {"k": 1.0, "r0": float("nan")}}},
        {"repulsion": {1: -1.0}},
        {"dihedrals": [{"types": None, "terms": []}, {"types": None, "terms": []}]},
        {"dihedrals": [{"types": None, "terms": [{"n": 0, "k": 1.0, "gamma": 0.0}]}]},
        {"unknown": 1},
    ],
)
def test_wrong_parameters_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError):
        PriorParameters.model_validate({**random_parameters(67).model_dump(), **change})
