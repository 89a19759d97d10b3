"""The arrow from ``sampler.pt`` to ``result.json`` and a report: drawn, scored, clustered."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from cgbench import config, provenance, registry
from cgbench.errors import CgbenchError, IntegrityError, UsageError, ValidationError
from cgbench.evaluate import Scored, read_reference
from cgbench.evaluate.ensemble_files import EnsembleFiles
from cgbench.pipeline.evaluate_ensemble import (
    EnsembleOptions,
    EnsemblePlan,
    EnsembleSource,
    evaluate_sources,
)
from cgbench.pipeline.leaks import with_leak
from cgbench.pipeline.results import commands_for, printed
from cgbench.pipeline.sampler_leaks import sampler_leak
from cgbench.pipeline.sampling import (
    SAMPLES,
    OpenedSampler,
    SamplingRecord,
    draw,
    open_sampler,
    read_profiles,
    stored_samples,
    systems_to_sample,
)
from cgbench.pipeline.sequence_models import sequence_models
from cgbench.progress import Progress, silent
from cgbench.results import Cost, ModelIdentity, Result, Track
from cgbench.results.schema import SystemCost
from cgbench.results.sequence_models import SequenceModels
from cgbench.samplers import SamplerSpec
from cgbench.store import find_reference

#: What samplers may be tested on: proteins that were trained on, or left out.
_TRACKS: tuple[Track, ...] = ("sampler", "leave-one-out")


@dataclass(eq=False)
class _Maker:
    """A sampler as the maker of an ensemble."""

    opened: OpenedSampler
    asked: Track | None
    home: Path | None
    records: dict[str, SamplingRecord] = field(default_factory=dict)
    models: dict[str, SequenceModels] = field(default_factory=dict)

    @property
    def identity(self) -> ModelIdentity:
        return ModelIdentity(
            name=self.opened.spec.name,
            hash=self.opened.hash,
            kind="sampler",
            spec=self.opened.spec.recorded(),
        )

    def told(self, row: Scored) -> Scored:
        key = row.result.system
        chosen, leak = sampler_leak(self.opened.spec, key, asked=self.asked, home=self.home)
        row = with_leak(row, chosen, leak)
        models = self.models.get(key)
        return replace(row, result=row.result.model_copy(update={"models": models}))

    def cost(self) -> Cost:
        spec, machine = self.opened.spec, provenance.hardware()
        drawn = sum(one.n_samples for one in self.records.values())
        seconds = sum(one.seconds for one in self.records.values())
        return Cost(
            hardware=f"{machine.accelerator or machine.processor}, {machine.cores} cores"[:200],
            n_parameters=spec.n_parameters,
            training_seconds=spec.training_cost_s,
            seconds_per_sample=seconds / drawn if drawn else None,
            systems={
                key: SystemCost(seconds_per_sample=one.seconds_per_sample)
                for key, one in self.records.items()
            },
        )


def evaluate_sampler(
    path: Path,
    systems: Sequence[str] | None = None,
    *,
    n: int = SAMPLES,
    out: Path,
    seed: int = 1,
    profiles: Sequence[str] = (),
    workers: int | None = None,
    track: Track | None = None,
    force: bool = False,
    home: Path | None = None,
    progress: Progress = silent,
) -> Result:
    """Draw structures of each system, score them as every ensemble is, and cluster some of them.

    What an earlier run has drawn and scored is kept. The first structures of each system, as many
    as the registry says, are its models: clustered, with the representative of the largest cluster
    compared with the native structure.

    Args:
        path: A ``sampler.pt``.
        systems: Registry keys; those that it was trained on if None.
        n: Structures of each system.
        out: Run folder to write.
        seed: Seed of draws and resamples.
        profiles: Evolutionary profiles as ``SYSTEM=FILE``.
        workers: Threads that measure frames; all cores if None.
        track: ``sampler`` or ``leave-one-out`` to refuse what does not belong there; if None the
            track is that which the sampler is on, and overlaps are marked.
        force: Draw and score again.
        home: Data home.
        progress: Told how far it is.

    Raises:
        UsageError: No such file or system, another track, or nothing to draw.
        IntegrityError: The sampler or data are damaged.
        ValidationError: The sampler was trained on what the track forbids.
    """
    opened = open_sampler(path)
    opened.sampler.profiles |= read_profiles(profiles)
    keys = systems_to_sample(opened, systems)
    if track is not None:
        _require_track(opened.spec, keys, track, home)
    maker = _Maker(opened, track, home)
    out.mkdir(parents=True, exist_ok=True)
    _write_settings(opened, keys, n, seed, out)
    plan = EnsemblePlan(
        name=opened.spec.name,
        protocol=None,
        paper=False,
        out=out,
        seed=seed,
        workers=workers,
        force=force,
        home=home,
        maker=maker,
    )
    return evaluate_sources(plan, _sources(maker, plan, keys, n, progress), progress)


def _require_track(spec: SamplerSpec, keys: Sequence[str], asked: Track, home: Path | None) -> None:
    """Raise where a track was asked for by name and the sampler has no place on it.

    Raises:
        UsageError: It is no track of samplers.
        ValidationError: The sampler was trained on what it forbids, or does not say on what.
    """
    if asked not in _TRACKS:
        raise UsageError(
            f"--track {asked}: no track of samplers", expected=" or ".join(_TRACKS), found=asked
        )
    leaks = {key: sampler_leak(spec, key, asked=asked, home=home)[1] for key in keys}
    refused = {key: leak for key, leak in leaks.items() if leak.status != "none"}
    if refused:
        raise ValidationError(
            f"{spec.name}: not on track {asked}",
            expected=f"a sampler that has not seen the test data of {', '.join(refused)}",
            found="\n".join(
                f"{key}: {text}" for key, leak in refused.items() for text in leak.sentences
            ),
            fix="leave --track away to have this marked on the result",
        )


def _sources(
    maker: _Maker, plan: EnsemblePlan, keys: Sequence[str], n: int, progress: Progress
) -> Iterator[EnsembleSource]:
    """Yield the samples of one system after the other, drawn when the one before is scored."""
    place = plan.out / "trajectories.zarr"
    said = EnsembleOptions(name=plan.name)
    for number, key in enumerate(keys):
        progress("sample", number, len(keys))
        try:
            bundle = read_reference(find_reference(key, plan.home))
        except (UsageError, IntegrityError) as error:
            reason = commands_for(key, error, plan.home)
            yield EnsembleSource(key, None, said, missing=reason)
            continue
        opened = maker.opened
        try:
            record = draw(
                opened,
                key,
                n,
                temperature=bundle.temperature,
                seed=plan.seed,
                out=place,
                force=plan.force,
            )
            models = stored_samples(place, key)[: registry.sampler_constants().models.per_sequence]
            maker.models[key] = sequence_models(
                models,
                bundle.native,
                seconds_per_sample=record.seconds_per_sample,
                workers=plan.workers or 1,
            )
        except CgbenchError as error:
            yield EnsembleSource(key, None, said, missing=printed(error.message))
            continue
        maker.records[key] = record
        notes = opened.sampler.notes(bundle.temperature)
        yield EnsembleSource(key, EnsembleFiles(place, [key]), said, notes=notes)
    progress("sample", len(keys), len(keys))


def _write_settings(
    opened: OpenedSampler, keys: Sequence[str], n: int, seed: int, out: Path
) -> None:
    content = opened.path.read_bytes()
    copy = out / "sampler.pt"
    if not copy.is_file() or copy.read_bytes() != content:
        config.write_atomic(copy, content)
    settings = {
        "sampler": opened.spec.name,
        "sampler_hash": opened.hash,
        "systems": list(keys),
        "samples": n,
        "seed": seed,
    }
    config.write_atomic(out / "config.yaml", yaml.safe_dump(settings, sort_keys=False))
