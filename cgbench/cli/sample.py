"""``cgbench sample``: structures from a sampler, in a file that ``cgbench evaluate`` takes."""

from pathlib import Path
from typing import Annotated

import typer

from cgbench.cli.common import AsJson, Force, Home, console, print_json, progress_bars


def sample(
    sampler: Annotated[Path, typer.Argument(help="A sampler.pt.")],
    system: Annotated[
        list[str] | None, typer.Option("--system", help="Systems (default: those trained on).")
    ] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Structures of each system.")] = 640,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the draws.")] = 1,
    temperature: Annotated[
        float | None, typer.Option("--temperature", help="In K (default: the registry's).")
    ] = None,
    profile: Annotated[
        list[str] | None,
        typer.Option("--profile", help="SYSTEM=FILE with evolutionary frequencies."),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", help="A .zarr for any number of systems, or an .npz for one.")
    ] = Path("samples.zarr"),
    device: Annotated[str, typer.Option("--device", help="Torch device, as cpu or cuda.")] = "cpu",
    force: Force = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Draw structures and write them as an ensemble without time order.

    'cgbench evaluate --ensemble OUT' scores them; 'cgbench evaluate SAMPLER' draws and scores.
    """
    from cgbench.errors import UsageError
    from cgbench.pipeline.sampling import open_sampler, read_profiles, sample_systems

    if temperature is not None and not 0.0 < temperature < float("inf"):
        raise UsageError("--temperature: out of range", expected="above 0 K", found=temperature)
    if out.suffix not in (".zarr", ".npz"):
        raise UsageError(f"--out {out}: no ensemble file", expected="NAME.zarr or NAME.npz")
    opened = open_sampler(sampler, device)
    opened.sampler.profiles |= read_profiles(profile or [])
    with progress_bars() as progress:
        records = sample_systems(
            opened,
            system or None,
            n,
            temperature=temperature,
            seed=seed,
            out=out,
            force=force,
            progress=progress,
        )
    if as_json:
        print_json(
            {
                "samples": str(out),
                "sampler": opened.hash,
                "systems": [
                    one.model_dump(mode="json") | {"seconds_per_sample": one.seconds_per_sample}
                    for one in records
                ],
            }
        )
        return
    for one in records:
        console.print(
            f"{one.system}: {one.n_samples} structures, {1000 * one.seconds_per_sample:.2f} ms each"
        )
    console.print(f"samples: {out}", soft_wrap=True)
