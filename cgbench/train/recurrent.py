"""Training of the recurrent baseline by maximum likelihood of internal coordinates."""

import copy
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import yaml
from torch import Tensor

from cgbench import config as files
from cgbench import provenance
from cgbench.errors import IntegrityError, SimulationError
from cgbench.nemo.internal import InternalCoordinates
from cgbench.progress import Progress, silent
from cgbench.samplers import LearnedSampler, SamplerSpec, save_sampler
from cgbench.samplers.recurrent import RecurrentNetwork
from cgbench.train.records import RunState, take_folder
from cgbench.train.recurrent_config import RecurrentConfig, RecurrentOptimiser
from cgbench.train.recurrent_data import (
    ChainFrames,
    SamplerMaterial,
    read_domains,
    read_systems,
)
from cgbench.train.sampler_checkpoints import read_state, write_state
from cgbench.train.sampler_records import SamplerOutcome, no_validation

__all__ = ["RecurrentConfig", "RecurrentOptimiser", "train_recurrent"]

VALIDATION_UNIT: Final = "negative log-likelihood of a residue, nats"
_LEFT: Final = ("sampler.pt", "logs/last.pt")


def train_recurrent(
    settings: RecurrentConfig,
    out: Path,
    *,
    home: Path | None = None,
    resume: bool = False,
    force: bool = False,
    checkpoint_minutes: float | None = 10.0,
    progress: Progress = silent,
) -> SamplerOutcome:
    """Train a recurrent sampler and write ``sampler.pt``.

    The folder holds ``config.yaml``, ``logs/last.pt``, ``sampler.pt``, ``training.json`` and
    ``provenance.json``. A finished run with the same configuration and data is returned as it is.
    All random numbers of a step follow from the seed and its number, so that a resumed run gives
    the weights of an uninterrupted one.

    Args:
        settings: What to train on what.
        out: The run folder.
        home: Data home.
        resume: Continue an unfinished run from its last checkpoint.
        force: Start over.
        checkpoint_minutes: Time between checkpoints; None for those at validations alone.
        progress: Told how far it is.

    Raises:
        UsageError: A system, its split, reference, profile or structures are not here, or the
            folder holds another run.
        ValidationError: The data do not fit together.
        IntegrityError: The checkpoint cannot be read.
        SimulationError: The training diverged; the last good state is ``last-good.pt``.
    """
    if settings.structures is not None:
        material = read_domains(settings.structures, settings.structure_profiles)
    else:
        material = read_systems(
            settings.as_training(), settings.profiles, settings.maximum_frames, home, progress
        )
    identity = {"config": settings.model_dump(mode="json"), **material.identity}
    out.mkdir(parents=True, exist_ok=True)
    fresh = force or not (out / "run.json").is_file()
    state = take_folder(out, files.fingerprint(identity), resume, force)
    if fresh:
        for name in _LEFT:
            (out / name).unlink(missing_ok=True)
    finished = out / "training.json"
    if finished.is_file() and (out / "sampler.pt").is_file():
        return files.read_model(SamplerOutcome, finished)
    (out / "logs").mkdir(exist_ok=True)
    files.write_atomic(out / "config.yaml", yaml.safe_dump(settings.model_dump(mode="json")))
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    return _Run(settings, out, material, state, checkpoint_minutes, progress).train()


@dataclass
class _Place:
    """How far a run is; losses are of ``best_weights``."""

    step: int = 0
    best_step: int = 0
    best_loss: float = math.inf
    waited: int = 0
    seconds: float = 0.0
    systems: dict[str, float] = field(default_factory=dict)
    best_weights: dict[str, Tensor] = field(default_factory=dict)


@dataclass(eq=False)
class _Run:
    """A run whose folder is ready and whose data are in memory."""

    settings: RecurrentConfig
    out: Path
    material: SamplerMaterial
    state: RunState
    checkpoint_minutes: float | None
    progress: Progress

    def train(self) -> SamplerOutcome:
        optimiser = self.settings.optimiser
        torch.manual_seed(self.settings.seed)
        self.network = RecurrentNetwork(self.settings.network)
        self.features = {
            one.name: torch.from_numpy(self.network.features(one.sequence, one.profile))
            for one in (*self.material.chains, *self.material.validation)
        }
        self.adam = torch.optim.AdamW(
            self.network.parameters(),
            lr=optimiser.learning_rate,
            weight_decay=optimiser.weight_decay,
        )
        self.place = self._continued()
        self.started = self.saved = time.monotonic()
        while self.place.step < optimiser.steps and not self._ended():
            self._step()
            at = self.place.step
            self.progress("training", at, optimiser.steps)
            if at % optimiser.validate_every == 0 or at == optimiser.steps:
                self._validate()
                self._save()
            elif self._due():
                self._save()
        if not self.place.best_weights:
            self._validate()
        return self._finish()

    def _ended(self) -> bool:
        optimiser = self.settings.optimiser
        late = (
            optimiser.maximum_minutes is not None
            and self.place.step > 0
            and self._seconds() > 60.0 * optimiser.maximum_minutes
        )
        return late or self.place.waited >= optimiser.patience

    def _seconds(self) -> float:
        return self.place.seconds + time.monotonic() - self.started

    def _due(self) -> bool:
        minutes = self.checkpoint_minutes
        return minutes is not None and time.monotonic() - self.saved > 60.0 * minutes

    def _loss(self, chain: ChainFrames, z: InternalCoordinates) -> Tensor:
        """Return the negative log-likelihood of a residue, a mean over structures."""
        found = self.network.log_likelihood(self.features[chain.name], z, chain.intact)
        return -found.mean() / len(chain.sequence)

    def _step(self) -> None:
        """Take one training step, or stop where something is not finite."""
        optimiser, number = self.settings.optimiser, self.place.step + 1
        # Everything random of a step follows from its number, so that nothing has to be kept.
        generator = np.random.default_rng([self.settings.seed, number])
        chains = self.material.chains
        n_chosen = min(optimiser.chains, len(chains))
        chosen = generator.choice(len(chains), size=n_chosen, replace=False)
        cosine = 0.5 * (1.0 + math.cos(math.pi * self.place.step / optimiser.steps))
        for group in self.adam.param_groups:
            group["lr"] = optimiser.learning_rate * (0.01 + 0.99 * cosine)
        before = copy.deepcopy(self.network.state_dict())
        self.adam.zero_grad()
        total = 0.0
        for index in chosen.tolist():
            chain = chains[index]
            n_structures = min(optimiser.batch_size, len(chain.training))
            loss = self._loss(chain, chain.batch(n_structures, generator)) / n_chosen
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), optimiser.gradient_clip)
        if not (math.isfinite(total) and bool(torch.isfinite(norm))):
            names = ", ".join(chains[index].name for index in chosen.tolist())
            raise self._diverged(number, names, total, before)
        self.adam.step()
        self.place.step = number

    def _diverged(
        self, number: int, names: str, loss: float, weights: dict[str, Tensor]
    ) -> SimulationError:
        """Keep the last good state and say where the run stopped."""
        kept = self.place.best_weights or weights
        good = all(bool(torch.isfinite(one).all()) for one in kept.values())
        if good:
            self.network.load_state_dict(kept)
            self._write(self.out / "last-good.pt", f"Training diverged at step {number}.")
        return SimulationError(
            f"{self.settings.name}: training step {number}, on {names}: the loss or its gradient "
            "is not finite",
            found=f"loss {loss:g}; last good state: "
            + (str(self.out / "last-good.pt") if good else "none, the first step diverged"),
            fix="a smaller optimiser.learning_rate or optimiser.gradient_clip",
        )

    @torch.no_grad()
    def _validate(self) -> None:
        """Keep the weights where they are the best so far; without validation data, always."""
        losses = {
            one.name: float(self._loss(one, InternalCoordinates.from_flat(one.validation)))
            for one in self.material.validation
            if len(one.validation)
        }
        total = float(np.mean(list(losses.values()))) if losses else math.nan
        if wrong := [name for name, loss in losses.items() if not math.isfinite(loss)]:
            names = f"validation of {', '.join(wrong[:12])}"
            raise self._diverged(self.place.step, names, total, self.network.state_dict())
        self.place.waited += 1
        if losses and not total < self.place.best_loss and self.place.best_weights:
            return
        self.place.best_loss = total if losses else math.inf
        self.place.best_step, self.place.waited = self.place.step, 0
        # Thousands of domains say nothing each.
        self.place.systems = losses if self.settings.systems else {}
        self.place.best_weights = copy.deepcopy(self.network.state_dict())

    def _continued(self) -> _Place:
        path = self.out / "logs" / "last.pt"
        if not path.is_file():
            return _Place(seconds=self.state.seconds)
        found = read_state(path, self.state.fingerprint, self.network.state_dict())
        self.network.load_state_dict(found["weights"])
        try:
            self.adam.load_state_dict(found["optimiser"])
            return _Place(**found["place"], best_weights=found["best_weights"])
        except (ValueError, TypeError, KeyError) as error:
            raise IntegrityError(
                f"{path}: not a checkpoint of this run", fix="start over with --force"
            ) from error

    def _save(self) -> None:
        self.saved = time.monotonic()
        place: dict[str, Any] = {
            key: getattr(self.place, key)
            for key in ("step", "best_step", "best_loss", "waited", "systems")
        }
        write_state(
            self.out / "logs" / "last.pt",
            self.state.fingerprint,
            weights=self.network.state_dict(),
            best_weights=self.place.best_weights,
            optimiser=self.adam.state_dict(),
            place=place | {"seconds": self._seconds()},
        )

    def _write(self, path: Path, note: str = "") -> SamplerSpec:
        settings = self.settings
        spec = SamplerSpec(
            name=settings.name,
            trained_on=self.material.trained_on,
            structures=self.material.structures,
            temperature=self.material.temperature,
            licence=settings.licence,
            description=f"{settings.description} {note}".strip(),
            seeds=(settings.seed,),
            training_cost_s=round(self._seconds(), 1),
            n_parameters=sum(one.numel() for one in self.network.parameters()),
        )
        save_sampler(path, LearnedSampler(self.network, spec))
        return spec

    def _finish(self) -> SamplerOutcome:
        place = self.place
        self.network.load_state_dict(place.best_weights)
        spec = self._write(self.out / "sampler.pt")
        known = math.isfinite(place.best_loss)
        unvalidated = [one.name for one in self.material.chains if not len(one.validation)]
        outcome = SamplerOutcome(
            fingerprint=self.state.fingerprint,
            steps=place.step,
            best_step=place.best_step,
            validation_loss=place.best_loss if known else None,
            validation_unit=VALIDATION_UNIT,
            validation_reason=None if known else no_validation(unvalidated),
            unvalidated=tuple(unvalidated),
            seconds=self._seconds(),
            n_parameters=spec.n_parameters or 0,
            systems=place.systems,
        )
        seeds = {"training": self.settings.seed}
        files.write_model(self.out / "provenance.json", provenance.collect(seeds))
        files.write_model(self.out / "training.json", outcome)
        return outcome
