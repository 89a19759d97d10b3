"""TorchMD-Net checkpoints: graph networks as our own, other models by the installed package.

The weights of a ``graph-network`` mean what they mean in ours, so they are converted and nothing
foreign is run. Other architectures, and graph networks with parts that ours does not have, are run
by the package ``torchmd-net`` if it is installed and the caller trusts it. Either way the
checkpoint is read as data; the package gets a copy that holds plain values and weights only.
"""

import contextlib
import importlib.metadata
import importlib.util
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from cgbench.adapters.base import Adapted, AdaptedPotential, Request
from cgbench.adapters.capped import CappedGraphNetwork
from cgbench.adapters.checkpoint import Checkpoint, Unopened, read_checkpoint
from cgbench.adapters.parts import prior_option, said_of, vocabulary_option
from cgbench.adapters.torchmdnet_settings import TorchMDNetSettings, read_settings
from cgbench.errors import CgbenchError, UsageError, ValidationError
from cgbench.models import (
    GraphNetwork,
    NetworkPotential,
    PotentialSpec,
    from_torchmdnet,
)
from cgbench.results.adapter import AdapterIdentity

VERSION: Final = "1"
OPTIONS: Final = ("drop_constant", "max_num_neighbors", "prior", "settings", "vocabulary")
DISTRIBUTION: Final = "torchmd-net"
#: Neighbours that the package is told to make room for, where nothing else is asked for.
_ROOM: Final = 256


def load(request: Request) -> Adapted:
    """Open a checkpoint: as our own network, or run by the package where it is trusted.

    Options: ``prior`` (force field added to the network), ``settings`` (a YAML file of
    hyper-parameters that the checkpoint lacks), ``vocabulary``, ``max_num_neighbors`` (the cap on
    neighbours; every bead within the cutoff by default) and ``drop_constant``.

    Raises:
        UsageError: No such file or option; or it has to be run by the package, which is not
            trusted or not installed.
        IntegrityError: The file is damaged or holds what no checkpoint needs.
        ValidationError: Weights and hyper-parameters do not fit together or cannot be used.
    """
    request.known(*OPTIONS)
    checkpoint = read_checkpoint(request.path)
    settings, given = read_settings(checkpoint, request.options.get("settings"))
    notes: list[str] = []
    obstacles = settings.obstacles()
    if obstacles:
        return _by_package(request, checkpoint, settings, given, obstacles)
    network = native_network(checkpoint, settings, drop_constant=request.flag("drop_constant"))
    vocabulary = vocabulary_option(request)
    prior = prior_option(request)
    if checkpoint.unopened:
        notes.append(f"Objects left unopened in the checkpoint: {len(checkpoint.unopened)} kinds.")
    if request.flag("drop_constant"):
        notes.append("A constant energy per system was left out.")
    if network.embedding.weight.dtype == torch.float64:
        notes.append("Weights were rounded from double to single precision.")
    cap = request.number("max_num_neighbors")
    notes.append(cap_note(settings.max_num_neighbors, cap))
    identity = AdapterIdentity(
        name="torchmdnet",
        version=VERSION,
        origin="built-in",
        foreign_code=False,
        options=request.recorded(),
        notes=tuple(notes),
    )
    spec = native_spec(request.path, network, request.name)
    network = network.float()
    if cap is None and vocabulary is None:
        return Adapted(NetworkPotential(network, prior, spec).eval(), identity)
    call: nn.Module = _Plain(network) if cap is None else CappedGraphNetwork(network, cap)
    cutoffs = tuple(c for c in (settings.cutoff_lower, settings.cutoff_upper) if c > 0)
    potential = AdaptedPotential(
        call.eval(),
        spec,
        identity,
        prior=prior,
        vocabulary=vocabulary,
        n_types=settings.max_z,
        cutoffs=cutoffs,
    )
    return Adapted(potential, identity)


def cap_note(trained: int, cap: int | None) -> str:
    """Say how many neighbours a bead hears, and how many it could hear in training."""
    if cap is None:
        return (
            f"Every bead within the cutoff is heard; the model was trained with max_num_neighbors "
            f"{trained}."
        )
    return f"max_num_neighbors {cap} as asked for; the model was trained with {trained}."


def native_spec(path: Path, network: GraphNetwork, name: str | None) -> PotentialSpec:
    """Return what is said of a converted model; a JSON file beside it may say more."""
    return said_of(path, name).model_copy(
        update={"cutoff": network.settings.cutoff_upper, "n_parameters": network.n_parameters}
    )


def native_network(
    checkpoint: Checkpoint, settings: TorchMDNetSettings, *, drop_constant: bool = False
) -> GraphNetwork:
    """Return the checkpoint's graph network as ours, in the precision of its weights.

    Raises:
        ValidationError: Weights are missing, left over or of another shape than the
            hyper-parameters say; or there is a constant energy that may not be dropped.
    """
    state = dict(checkpoint.state)
    if drop_constant:
        state = {key: value for key, value in state.items() if key.rpartition(".")[2] != "mean"}
    precisions = {tensor.dtype for tensor in state.values() if tensor.is_floating_point()}
    if len(precisions) > 1:
        # Buffers without a precision of their own, as the mean, may stay in single precision.
        state = {key: t.double() if t.is_floating_point() else t for key, t in state.items()}
    try:
        return from_torchmdnet(state, settings.native(state)).eval()
    except ValidationError as error:
        fix = error.fix
        if "constant energy" in error.what:
            fix = "--adapter-option drop_constant=true: it changes neither forces nor ensembles"
        raise ValidationError(
            f"{checkpoint.path}: {error.what}",
            expected=error.expected or f"the weights of a {settings.model} of these settings",
            found=error.found,
            fix=fix or "take the checkpoint and the hyper-parameters of one training",
        ) from error


class _Plain(nn.Module):
    """A graph network called by the flat convention."""

    def __init__(self, network: GraphNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, bead_types: Tensor, pos: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            n_systems = int(batch.max()) + 1
            return self.network.energy_forces(bead_types, pos, batch, n_systems)


def _by_package(
    request: Request,
    checkpoint: Checkpoint,
    settings: TorchMDNetSettings,
    given: Mapping[str, Any],
    obstacles: tuple[str, ...],
) -> Adapted:
    """Let the installed package run a model that our network is not."""
    try:
        installed = importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        installed = None
    package = f"{DISTRIBUTION} {installed or '(not installed)'}"
    request.require_trust(f"the package {package}, for {'; '.join(obstacles)}")
    if installed is None or importlib.util.find_spec("torchmdnet") is None:
        raise UsageError(
            f"{request.path}: the package {DISTRIBUTION} is not installed here",
            expected="the package that the model was trained with",
            found=f"a model with {'; '.join(obstacles)}",
            fix="pip install 'cgbench[adapters]'",
        )
    cap = request.number("max_num_neighbors")
    room = cap or max(_ROOM, settings.max_num_neighbors)
    model = _package_model(checkpoint, given, room, package)
    identity = AdapterIdentity(
        name="torchmdnet",
        version=VERSION,
        origin="built-in",
        foreign_code=True,
        runs=(package,),
        options=request.recorded(),
        notes=(
            f"Run by {package}: {'; '.join(obstacles)}."[:2000],
            cap_note(settings.max_num_neighbors, cap),
        ),
    )
    spec = said_of(request.path, request.name).model_copy(
        update={
            "cutoff": settings.cutoff_upper,
            "n_parameters": sum(weight.numel() for weight in model.parameters()),
        }
    )
    potential = AdaptedPotential(
        model,
        spec,
        identity,
        prior=prior_option(request),
        vocabulary=vocabulary_option(request),
        n_types=settings.max_z,
        cutoffs=tuple(c for c in (settings.cutoff_lower, settings.cutoff_upper) if c > 0),
    )
    return Adapted(potential, identity)


def _package_model(
    checkpoint: Checkpoint, given: Mapping[str, Any], room: int, package: str
) -> nn.Module:
    """Return the package's module; it reads a copy of the checkpoint that holds plain data only."""
    values = {name: value for name, value in given.items() if not isinstance(value, Unopened)}
    with tempfile.TemporaryDirectory(prefix="cgbench-") as folder:
        copy = Path(folder) / "model.ckpt"
        torch.save({"hyper_parameters": values, "state_dict": checkpoint.state}, copy)
        try:
            with contextlib.redirect_stdout(sys.stderr):
                from torchmdnet.models.model import load_model

                model: nn.Module = load_model(str(copy), derivative=True, max_num_neighbors=room)
        except CgbenchError:
            raise
        # Foreign code may raise anything; the caller is told which program it was.
        except Exception as error:
            text = (str(error).splitlines() or [""])[0][:300]
            raise ValidationError(
                f"{checkpoint.path}: {package} cannot build the model",
                expected="hyper-parameters and weights that it understands",
                found=f"{type(error).__name__}: {text}",
                fix="install the version that the model was trained with",
            ) from error
    return model.float().eval().requires_grad_(False)
