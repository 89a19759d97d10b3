"""From a checkpoint of another program, perhaps in an archive, to a ``model.pt``."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cgbench import config, registry
from cgbench.config import Frozen
from cgbench.errors import UsageError
from cgbench.models import NetworkPotential, model_hash, save_model
from cgbench.pipeline.stated import state_training

if TYPE_CHECKING:
    from cgbench.adapters import AdapterChoice

#: What can be converted, rather than run.
_ADAPTER = "torchmdnet"
_PUBLISHED = "published"


@dataclass(frozen=True)
class ConvertOptions:
    """What is to be converted, and what goes with it.

    Attributes:
        prior: File of the force field; ``published`` for that of the reference work in the data
            home; None for none.
        settings: YAML file of hyper-parameters that the checkpoint lacks.
        system: Which checkpoint of a folder or archive, by system.
        member: Which, by its path inside.
        name: What the model is called.
        licence: Licence of the weights.
        trained_on: What it was trained on, by the word of who converts it: see
            :func:`~cgbench.pipeline.stated.state_training`.
    """

    prior: str | None = None
    settings: Path | None = None
    system: str | None = None
    member: str | None = None
    name: str | None = None
    licence: str | None = None
    trained_on: tuple[str, ...] = ()


class Converted(Frozen):
    """A converted model.

    Attributes:
        path: The ``model.pt``.
        hash: Its hash.
        name: What it is called.
        checkpoint: The checkpoint, by its name in the source.
        checkpoint_sha256: Hash of the checkpoint's file.
        has_prior: Whether a prior is in it.
        notes: What to know of it.
    """

    path: Path
    hash: str
    name: str
    checkpoint: str
    checkpoint_sha256: str
    has_prior: bool
    notes: tuple[str, ...]


def convert_model(
    source: Path,
    out: Path,
    choice: "AdapterChoice | None" = None,
    options: ConvertOptions | None = None,
    *,
    force: bool = False,
    home: Path | None = None,
) -> Converted:
    """Convert a TorchMD-Net graph network to a ``model.pt``; no foreign code is run.

    Args:
        source: A checkpoint, or a folder or archive that holds some.
        out: The file to write.
        choice: The adapter, ``torchmdnet``, with its options.
        options: What is to be converted, and what goes with it.
        force: Replace another model at ``out``.
        home: Data home, where the published force field and splits lie.

    Raises:
        UsageError: No such file, adapter or option; or ``out`` holds another model.
        IntegrityError: A file is damaged or unsafe.
        ValidationError: The checkpoint is no graph network that can be converted.
    """
    from cgbench.adapters.archives import checkpoint_in
    from cgbench.adapters.convert import native_potential

    options = options or ConvertOptions()
    if choice is not None and choice.name != _ADAPTER:
        raise UsageError(
            f"--adapter {choice.name}: its models are run, not converted",
            expected=_ADAPTER,
            fix="give --adapter to check, simulate and evaluate",
        )
    given = dict({} if choice is None else choice.options)
    if options.prior is not None:
        given["prior"] = str(_prior(options.prior, home))
    if options.settings is not None:
        given["settings"] = str(options.settings)
    with checkpoint_in(source, system=options.system, member=options.member) as (path, member):
        potential, notes = native_potential(path, given, options.name)
        sha256 = config.file_sha256(path)
    description = f"{potential.spec.description} sha256 of {member}: {sha256}."
    update = {"description": description}
    if options.licence is not None:
        update["licence"] = options.licence
    potential.spec = potential.spec.model_copy(update=update)
    state_training(potential, options.trained_on, home)
    _write(out, potential, force)
    return Converted(
        path=out,
        hash=model_hash(out),
        name=potential.spec.name,
        checkpoint=member,
        checkpoint_sha256=sha256,
        has_prior=potential.prior is not None,
        notes=notes,
    )


def _write(out: Path, potential: NetworkPotential, force: bool) -> None:
    """Write the model beside its place, and move it there unless another one is there.

    Raises:
        UsageError: There is another one, and it may not be replaced.
    """
    beside = out.with_name(f".{out.name}.new")
    try:
        save_model(beside, potential)
        if out.exists() and not force and model_hash(out) != model_hash(beside):
            raise UsageError(
                f"{out}: holds another model", fix="use --force to replace it, or another --out"
            )
        beside.replace(out)
    finally:
        beside.unlink(missing_ok=True)


def _prior(name: str, home: Path | None) -> Path:
    if name != _PUBLISHED:
        return Path(name).expanduser()
    files = registry.remote_files([registry.SUITE], ["setup"])
    path = config.data_home(home) / files[0].path
    if not path.is_file():
        raise UsageError(
            f"{path}: the published force field is not here",
            fix="cgbench download suite --kind setup",
        )
    return path
