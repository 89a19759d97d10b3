"""Synthetic stores with known answers: the twelve proteins under a structure-based (Gō) potential.

For each protein, and for variants whose native structure is at hand, a Gō potential of the native
structure (:mod:`cgbench.models.go_model`) is simulated with the package's own Langevin engine, half
of the trajectories from the native structure and half from what it unfolds to when it is hot. The
frames become a store with the exact forces: there is no noise, so that the generating potential has
no force error, and whatever a model misses is the model's fault. Splits, reference bundle and the
generating potential lie beside it, in a data home of its own.

The keys are those of the published systems, so that everything that knows them works: leave-one-out
splits, variants, priors. Stores and references are marked ``synthetic``, and so is every result
that is made with them: they test the suite, and say nothing about proteins.
"""

import concurrent.futures
import copy
import multiprocessing
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cgbench import config, registry
from cgbench.errors import UsageError
from cgbench.evaluate import write_reference
from cgbench.evaluate.native import read_native
from cgbench.evaluate.reference_build import build_from_store
from cgbench.ingest.preprocess import preprocess_source
from cgbench.models import (
    GoChain,
    GoModel,
    GoModelSettings,
    NetworkPotential,
    PotentialSpec,
    TrainedOn,
    save_model,
)
from cgbench.models.go_model import NOT_A_PREDICTION
from cgbench.pipeline.references import OwnSystem
from cgbench.progress import Progress, silent
from cgbench.simulation import SystemInput, simulate
from cgbench.splits import make_split, write_split
from cgbench.store import (
    REFERENCE_VERSION,
    StoreMetadata,
    SystemStore,
    open_store,
    read_trajectories,
)
from cgbench.testing.synthetic_natives import (
    PROTEINS,
    VARIANTS,
    chain_of,
    prepare_native,
    scale_of,
)
from cgbench.testing.synthetic_settings import (
    BASE_PROTOCOL,
    FORCE_MAP,
    ExactFrames,
    SyntheticRecord,
    SyntheticSettings,
)


def record_path(home: Path, system: str) -> Path:
    """Return where the record of a finished synthetic system lies."""
    return home / "synthetic" / f"{system}.json"


def data_key(system: str) -> str:
    """Return the name of the store, splits and reference of a protein or variant.

    Those of data are in small letters, which the keys of variants are not.
    """
    return system.lower()


def generating_model(home: Path, system: str) -> Path:
    """Return the ``model.pt`` of the potential that a synthetic store was made with."""
    return home / "models" / "synthetic" / system / "model.pt"


def build_system(
    home: Path,
    system: str,
    settings: SyntheticSettings | None = None,
    *,
    published: Path | None = None,
    progress: Progress = silent,
) -> SyntheticRecord:
    """Make native structure, store, splits, reference and generating potential of one system.

    What is finished with the same settings and native structure is kept, and an interrupted
    simulation goes on.

    Args:
        home: A data home for synthetic data alone.
        system: Key of a published system, or of a variant with an entry that is at hand.
        settings: How much.
        published: Folder of published data with ``native/`` and ``mutants/``; by default native
            structures are taken from ``home/native`` or the user's own data home.
        progress: Told how far it is.

    Raises:
        UsageError: The native structure is not at hand, or the home holds data that are not
            synthetic.
    """
    settings = settings or SyntheticSettings()
    check_home(home, system)
    native_path = prepare_native(home, system, published)
    chain, sequence = chain_of(system, home)
    native = read_native(native_path, sequence)
    scale = scale_of(system)
    fingerprint = config.fingerprint(
        {
            "settings": settings.model_dump(mode="json"),
            "native": native.tolist(),
            "scale": scale,
            "sequence": sequence,
        }
    )
    record = record_path(home, system)
    if record.is_file():
        found = config.read_model(SyntheticRecord, record)
        if found.fingerprint == fingerprint:
            return found
    model = NetworkPotential(
        GoModel(GoModelSettings(chains=(chain,)), [native], [scale]), None, _spec(system, None)
    )
    key = data_key(system)
    trajectories, seconds = _simulated(home, key, sequence, chain, model, settings, progress)
    store = _write_store(home, key, sequence, model, trajectories, settings, fingerprint)
    for split_id in ("block-v1", *(f"lopo-{key}" for key in PROTEINS)):
        split = make_split(split_id, store, settings.split)
        write_split(home / "splits" / key / f"{split_id}.json", split)
        if split_id == "block-v1":
            model.spec = _spec(key, (store.fingerprint, split.fingerprint))
    save_model(generating_model(home, system), model)
    own = OwnSystem(key, sequence, store.metadata.temperature, settings.analysis)
    bundle = build_from_store(
        store, own, native, n_resamples=settings.n_resamples, progress=progress
    )
    write_reference(home / "references" / REFERENCE_VERSION / f"{key}.zarr", bundle)
    metadata = bundle.metadata
    made = SyntheticRecord(
        system=system,
        fingerprint=fingerprint,
        n_frames=store.n_frames,
        scale=scale,
        folded_population=metadata.folded_population.value,
        n_folding=metadata.n_folding,
        n_unfolding=metadata.n_unfolding,
        converged=metadata.converged,
        seconds=seconds,
    )
    config.write_model(record, made)
    shutil.rmtree(home / "synthetic" / key, ignore_errors=True)
    return made


def _spec(system: str, data: tuple[str, str] | None) -> PotentialSpec:
    """Return what the generating potential says of itself; with the data once they are there."""
    trained_on: tuple[TrainedOn, ...] = ()
    if data is not None:
        store, split = data
        trained_on = (
            TrainedOn(
                system=system,
                split_id="block-v1",
                split_fingerprint=split,
                store_fingerprint=store,
            ),
        )
    return PotentialSpec(
        name=f"synthetic/{system}",
        trained_on=trained_on,
        force_map=FORCE_MAP,
        licence="MIT",
        description=f"{NOT_A_PREDICTION} The potential that a synthetic store was made with.",
        n_parameters=1,
    )


def _simulated(
    home: Path,
    system: str,
    sequence: str,
    chain: GoChain,
    model: NetworkPotential,
    settings: SyntheticSettings,
    progress: Progress,
) -> tuple[list[Any], float]:
    """Return trajectories (n_frames, n_beads, 3), and the seconds that they took."""
    folder = home / "synthetic" / system
    folder.mkdir(parents=True, exist_ok=True)
    network = model.network
    assert isinstance(network, GoModel)  # noqa: S101 - made by the caller
    native = torch.as_tensor(network.native(0), dtype=torch.float32)[None]
    types = torch.tensor(chain.bead_types)
    half = settings.n_trajectories // 2
    identity = config.fingerprint(
        {"scale": network.scale.tolist(), "native": native.tolist(), "chain": chain.bead_types}
    )
    run = partial(simulate, model, seed=settings.seed, model_hash=identity, progress=progress)
    interval = settings.interval
    # Twice the temperature unfolds in some ps what stays folded for long at the one of the store.
    hot = settings.protocol(
        id="synthetic-unfolding",
        n_replicas=settings.n_trajectories - half,
        temperature=2.0 * registry.protocol(BASE_PROTOCOL).temperature,
        length=interval * max(1, round(24.0 / interval)),
    )
    first = run(SystemInput(system, types, native, sequence), hot, out=folder / "hot.zarr")
    last = [np.asarray(one[-1:]) for one in read_trajectories(folder / "hot.zarr").coordinates]
    unfolded = torch.from_numpy(np.concatenate(last))
    starts = torch.cat([native.expand(half, -1, -1), unfolded])
    second = run(
        SystemInput(system, types, starts, sequence),
        settings.protocol(),
        out=folder / "trajectories.zarr",
    )
    found = read_trajectories(folder / "trajectories.zarr")
    skipped = round(settings.skipped / interval)
    frames = [np.asarray(one[skipped:]) for one in found.coordinates]
    return frames, first.wall_time + second.wall_time


def _write_store(
    home: Path,
    system: str,
    sequence: str,
    model: NetworkPotential,
    trajectories: list[Any],
    settings: SyntheticSettings,
    fingerprint: str,
) -> SystemStore:
    types = torch.tensor(registry.bead_vocabulary().types(sequence))
    half = settings.n_trajectories // 2
    variant = system in map(data_key, VARIANTS)
    name = system if variant else registry.system(system).name
    metadata = StoreMetadata(
        system=system,
        name=f"{name}, synthetic",
        sequence=sequence,
        temperature=registry.protocol(BASE_PROTOCOL).temperature,
        frame_interval=settings.interval,
        force_maps=(FORCE_MAP,),
        default_force_map=FORCE_MAP,
        force_map_consistent={FORCE_MAP: "yes"},
        constraints="none",
        licence="MIT",
        trajectories_known=True,
        start_kind=("native",) * half + ("unfolded",) * (settings.n_trajectories - half),
        sources=(),
        description="Synthetic: a structure-based (Gō) potential of the native structure, with its "
        "exact forces. It tests the suite and says nothing about the protein.",
        synthetic=True,
    )
    source = ExactFrames(copy.deepcopy(model).double(), types, trajectories)
    path = home / "store" / f"{system}.zarr"
    preprocess_source(source, metadata, path, reading={"simulation": fingerprint})
    return open_store(system, home)


def build_stores(
    home: Path,
    systems: Sequence[str] = (*PROTEINS, *VARIANTS),
    settings: SyntheticSettings | None = None,
    *,
    published: Path | None = None,
    workers: int = 1,
    progress: Progress = silent,
) -> list[SyntheticRecord]:
    """Make synthetic systems, several at a time, the largest first; finished ones are kept.

    Args:
        home: A data home for synthetic data alone.
        systems: Keys of proteins and variants.
        settings: How much.
        published: As for :func:`build_system`.
        workers: Processes, one thread each.
        progress: Told of the systems done.

    Returns:
        Their records, in the order asked for.

    Raises:
        UsageError: A system is unknown or its native structure not at hand, or the home holds
            data that are not synthetic.
    """
    for system in systems:
        scale_of(system)
        prepare_native(home, system, published)
        check_home(home, system)
    ordered = sorted(systems, key=lambda key: -len(chain_of(key, home)[1]))
    made: dict[str, SyntheticRecord] = {}
    if workers == 1:
        for system in ordered:
            made[system] = build_system(home, system, settings, published=published)
            progress("synthetic stores", len(made), len(systems))
        return [made[system] for system in systems]
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
        tasks = {pool.submit(_in_process, home, one, settings, published): one for one in ordered}
        for task in concurrent.futures.as_completed(tasks):
            made[tasks[task]] = task.result()
            progress("synthetic stores", len(made), len(systems))
    return [made[system] for system in systems]


def _in_process(
    home: Path, system: str, settings: SyntheticSettings | None, published: Path | None
) -> SyntheticRecord:
    torch.set_num_threads(1)
    return build_system(home, system, settings, published=published)


def check_home(home: Path, system: str) -> None:
    """Check that nothing in a home would be replaced that is not synthetic.

    Raises:
        UsageError: It holds a store of the system with other data.
    """
    path = home / "store" / f"{data_key(system)}.zarr"
    if path.is_dir() and not SystemStore(path).metadata.synthetic:
        raise UsageError(
            f"{path}: holds data that are not synthetic",
            fix="make synthetic data in a data home of their own",
        )
