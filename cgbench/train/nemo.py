"""Training of NEMO: from a configuration to ``sampler.pt``, resumable after every checkpoint."""

import copy
import math
import shutil
import time
from pathlib import Path
from typing import NamedTuple

import torch
import yaml
from torch import Tensor

from cgbench import config as files
from cgbench import provenance
from cgbench.errors import SimulationError
from cgbench.nemo.model import Nemo
from cgbench.progress import Progress, silent
from cgbench.samplers import LearnedSampler, SamplerSpec, save_sampler
from cgbench.train.nemo_config import NemoConfig
from cgbench.train.nemo_data import ChainData
from cgbench.train.nemo_losses import LOCAL, loss_parts, streams, validation_parts
from cgbench.train.nemo_material import NemoMaterial, read_material
from cgbench.train.nemo_state import Numbers, Position, load_position, save_position
from cgbench.train.records import RunState, take_folder
from cgbench.train.sampler_records import SamplerOutcome, no_validation

__all__ = ["NemoConfig", "train_nemo"]

#: What a run leaves in its folder, beside what ``take_folder`` knows, that another must not find.
_LEFT = ("sampler.pt", "logs/last.pt", "logs/metrics.csv")
VALIDATION_UNIT = "weighted risk"


def train_nemo(
    settings: NemoConfig,
    out: Path,
    *,
    home: Path | None = None,
    resume: bool = False,
    force: bool = False,
    checkpoint_minutes: float | None = 10.0,
    progress: Progress = silent,
) -> SamplerOutcome:
    """Train a NEMO sampler and write ``sampler.pt``.

    The folder holds ``config.yaml``, ``logs/metrics.csv``, ``logs/last.pt``, ``sampler.pt``,
    ``training.json`` and ``provenance.json``. A finished run with the same configuration and data
    is returned as it is. All random numbers of a step follow from the seed and its number, so that
    a resumed run gives the weights of an uninterrupted one.

    Args:
        settings: What to train on what.
        out: The run folder.
        home: Data home.
        resume: Continue an unfinished run from its last checkpoint.
        force: Start over.
        checkpoint_minutes: Time between checkpoints; None for those at validations alone.
        progress: Told how far it is.

    Raises:
        UsageError: A system, its split, reference or profile is not here, or the folder holds
            another run.
        ValidationError: The data do not fit together.
        IntegrityError: The checkpoint cannot be read.
        SimulationError: The training diverged: names step and term. The last good state is
            ``last-good.pt``.
    """
    material = read_material(settings, home, progress)
    # How long this machine may work is no part of what is trained.
    config = settings.model_dump(mode="json", exclude={"optimiser": {"maximum_minutes"}})
    identity = {"config": config, **material.identity}
    out.mkdir(parents=True, exist_ok=True)
    fresh = force or not (out / "run.json").is_file()
    take_folder(out, files.fingerprint(identity), resume, force)
    if fresh:
        for name in _LEFT:
            (out / name).unlink(missing_ok=True)
        shutil.rmtree(out / "logs", ignore_errors=True)
    finished = out / "training.json"
    if finished.is_file() and (out / "sampler.pt").is_file():
        return files.read_model(SamplerOutcome, finished)
    (out / "logs").mkdir(exist_ok=True)
    files.write_atomic(out / "config.yaml", yaml.safe_dump(settings.model_dump(mode="json")))
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    return _Run(settings, out, material, checkpoint_minutes).train(progress)


class _Gradient(NamedTuple):
    """Gradient of some parts of the loss: one tensor a weight, or None, and its norm."""

    name: str
    parts: tuple[Tensor | None, ...]
    norm: float


class _Run:
    """A run whose folder is ready and whose data are in memory."""

    def __init__(
        self,
        settings: NemoConfig,
        out: Path,
        material: NemoMaterial,
        checkpoint_minutes: float | None,
    ) -> None:
        self.settings, self.out, self.material = settings, out, material
        self.checkpoint_minutes = checkpoint_minutes
        torch.manual_seed(settings.seed)
        self.model = Nemo(settings.network.at(material.temperature))
        self.adam = torch.optim.AdamW(
            self.model.parameters(),
            lr=settings.optimiser.learning_rate,
            weight_decay=settings.optimiser.weight_decay,
        )
        self.checkpoint = out / "logs" / "last.pt"
        self.place = Position()
        if self.checkpoint.is_file():
            self.place = load_position(self.checkpoint, self.model, self.adam)
        self.numbers = Numbers(out / "logs" / "metrics.csv", self.place.step)
        self.started = self.saved = time.monotonic()

    def train(self, progress: Progress) -> SamplerOutcome:
        """Train to the end and write what a finished run leaves."""
        optimiser = self.settings.optimiser
        while self.place.step < optimiser.steps and not self._late():
            self._step()
            at = self.place.step
            progress("training", at, optimiser.steps)
            if at % optimiser.validate_every == 0 or at == optimiser.steps:
                self._validate()
                self._save()
            elif self._due():
                self._save()
        if self.place.best_step == 0:
            self._validate()
        return self._finish()

    def _late(self) -> bool:
        most = self.settings.optimiser.maximum_minutes
        return most is not None and self._seconds() > 60.0 * most and self.place.step > 0

    def _seconds(self) -> float:
        return self.place.seconds + time.monotonic() - self.started

    def _due(self) -> bool:
        minutes = self.checkpoint_minutes
        return minutes is not None and time.monotonic() - self.saved > 60.0 * minutes

    def _step(self) -> None:
        """Take one training step, or stop where something is not finite."""
        settings, number = self.settings, self.place.step + 1
        # Systems take turns in an order that the seed gives, each as often as another.
        turn, which = divmod(self.place.step, len(self.material.chains))
        order = streams(settings.seed, 2**32 + turn).data.permutation(len(self.material.chains))
        data = self.material.chains[int(order[which])]
        for group in self.adam.param_groups:
            group["lr"] = _learning_rate(settings, number)
        try:
            parts = loss_parts(self.model, data, settings, number)
            gradients = self._gradients(parts.terms, data, number)
        except SimulationError as error:
            raise self._diverged(error) from error
        self.place.good_weights = copy.deepcopy(self.model.state_dict())
        self.adam.zero_grad()
        for gradient in gradients:
            factor = min(1.0, settings.optimiser.gradient_clip / max(gradient.norm, 1e-30))
            for weight, own in zip(self.model.parameters(), gradient.parts, strict=True):
                if own is not None:
                    weight.grad = factor * own + (0.0 if weight.grad is None else weight.grad)
        self.adam.step()
        self.place.step = number
        row: dict[str, float | str] = {"step": number, "system": data.system, **parts.raw}
        norms = {f"gradient_{one.name}": one.norm for one in gradients}
        self.numbers.add(row | norms | {"moved": parts.moved})

    def _gradients(
        self, terms: dict[str, Tensor], data: ChainData, number: int
    ) -> list["_Gradient"]:
        """Return the gradients of the parts that pass through the simulation, and of the others.

        Raises:
            SimulationError: One is not finite; names the term.
        """
        groups = {
            "unrolled": [name for name in terms if name not in LOCAL],
            "local": [name for name in terms if name in LOCAL],
        }
        found = []
        for group, names in groups.items():
            gradient = self._gradient(group, [terms[name] for name in names])
            if not math.isfinite(gradient.norm):
                alone = (name for name in names if not self._finite_alone(data, number, name))
                raise SimulationError(
                    f"{self.settings.name}: training step {number}: the gradient of the term "
                    f"{next(alone, ' + '.join(names))} of {data.system} is not finite"
                )
            found.append(gradient)
        return found

    def _gradient(self, group: str, terms: list[Tensor]) -> "_Gradient":
        parts = torch.autograd.grad(
            torch.stack(terms).sum(),
            list(self.model.parameters()),
            retain_graph=True,
            allow_unused=True,
        )
        squares = [(one**2).sum() for one in parts if one is not None]
        return _Gradient(group, parts, float(torch.stack(squares).sum().sqrt()))

    def _finite_alone(self, data: ChainData, number: int, name: str) -> bool:
        """Tell whether the gradient of one term, computed again, is finite."""
        terms = loss_parts(self.model, data, self.settings, number).terms
        return math.isfinite(self._gradient(name, [terms[name]]).norm)

    def _diverged(self, error: SimulationError) -> SimulationError:
        """Keep the last good state and say what to do."""
        kept = "none: the first step diverged"
        if self.place.good_weights:
            kept = str(self.out / "last-good.pt")
            note = f"Training diverged later: the weights before step {self.place.step + 1}."
            self.model.load_state_dict(self.place.good_weights)
            self._write(self.out / "last-good.pt", note)
        return SimulationError(
            error.what,
            found=f"last good state: {kept}",
            fix="a smaller step_size, largest_drift or learning_rate, more of loss.lyapunov, or "
            "less optimiser.damping",
        )

    def _validate(self) -> None:
        """Keep the weights where they are the best so far; without validation data, always."""
        self.model.eval()
        total = 0.0
        for data in self.material.validation:
            try:
                loss, terms, _ = validation_parts(self.model, data, self.settings)
            except SimulationError as error:
                where = f"{error.what}, after training step {self.place.step}"
                raise self._diverged(SimulationError(where)) from error
            total += loss / len(self.material.validation)
            row: dict[str, float | str] = {"step": self.place.step, "system": data.system}
            row |= {f"validation_{name}": value for name, value in terms.items()}
            self.numbers.add(row | {"validation_loss": loss})
        self.model.train()
        if not self.material.validation:
            total = math.inf
        elif not total < self.place.best_loss and self.place.best_weights:
            return
        self.place.best_loss, self.place.best_step = total, self.place.step
        self.place.best_weights = copy.deepcopy(self.model.state_dict())

    def _save(self) -> None:
        self.numbers.save()
        kept = copy.copy(self.place)
        kept.seconds = self._seconds()
        save_position(self.checkpoint, kept, self.model, self.adam)
        self.saved = time.monotonic()

    def _write(self, path: Path, note: str, seconds: float | None = None) -> None:
        """Write the model as it is as a sampler."""
        settings = self.settings
        spec = SamplerSpec(
            name=settings.name,
            version="1",
            trained_on=self.material.trained_on,
            structures=self.material.structures,
            temperature=self.model.settings.temperature,
            n_steps=self.model.settings.simulator.n_steps,
            licence=settings.licence,
            description=f"{settings.description} {note}".strip(),
            seeds=(settings.seed,),
            training_cost_s=None if seconds is None else round(seconds, 1),
            n_parameters=self.model.n_parameters,
        )
        save_sampler(path, LearnedSampler(self.model, spec))

    def _finish(self) -> SamplerOutcome:
        self._save()
        self.model.load_state_dict(self.place.best_weights)
        self.model.eval()
        found = {
            data.system: validation_parts(self.model, data, self.settings)
            for data in self.material.validation
        }
        seconds = self._seconds()
        known = math.isfinite(self.place.best_loss)
        validated = {data.system for data in self.material.validation}
        # Domains validate others; systems of stores validate themselves.
        unvalidated = [
            data.system
            for data in self.material.chains
            if self.settings.systems and data.system not in validated
        ]
        outcome = SamplerOutcome(
            fingerprint=files.read_model(RunState, self.out / "run.json").fingerprint,
            steps=self.place.step,
            best_step=self.place.best_step,
            validation_loss=self.place.best_loss if known else None,
            validation_unit=VALIDATION_UNIT,
            validation_reason=None if known else no_validation(unvalidated),
            unvalidated=tuple(unvalidated),
            terms=_mean([terms for _, terms, _ in found.values()]),
            floor=_mean([floor for _, _, floor in found.values()]),
            seconds=seconds,
            n_parameters=self.model.n_parameters,
            systems={system: loss for system, (loss, _, _) in found.items()},
        )
        self._write(self.out / "sampler.pt", "", seconds)
        seeds = {"training": self.settings.seed}
        files.write_model(self.out / "provenance.json", provenance.collect(seeds))
        files.write_model(self.out / "training.json", outcome)
        return outcome


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    names = rows[0] if rows else {}
    return {name: sum(row[name] for row in rows) / len(rows) for name in names}


def _learning_rate(settings: NemoConfig, step: int) -> float:
    """Return the learning rate of a step: half a cosine down to a tenth."""
    optimiser = settings.optimiser
    share = 0.5 * (1.0 + math.cos(math.pi * (step - 1) / max(optimiser.steps, 1)))
    return optimiser.learning_rate * (0.1 + 0.9 * share)
