"""Configurations of the baselines of the published proteins, as files that ``train`` reads."""

from pathlib import Path
from typing import Any, Final

import yaml

from cgbench import registry
from cgbench.config import write_atomic

FAMILY: Final = "torchmd-gn"
MULTI: Final = f"{FAMILY}/multi"


def baseline_configs() -> dict[str, dict[str, Any]]:
    """Return the settings of every baseline of the published proteins, by its name.

    One network for each protein, one for all of them, and for each protein one that is trained on
    the eleven others.
    """
    settings = registry.baseline_settings()
    published = [one.key for one in registry.systems() if one.published_key is not None]
    found = {
        f"{FAMILY}/{key}": {
            "description": f"TorchMD-GN with the reference work's settings, for {key} alone.",
            "system": key,
            "split": "block-v1",
            "frame_stride": settings.stride_of(key),
        }
        for key in published
    }
    found[MULTI] = {
        "description": "TorchMD-GN with the reference work's settings, trained on all twelve.",
        "systems": published,
        "split": "block-v1",
        "balance": "frames",
        "frame_stride": {key: settings.stride_of(key) for key in published},
    }
    for left_out in published:
        others = [key for key in published if key != left_out]
        found[f"{FAMILY}/without-{left_out}"] = {
            "description": f"The network of all proteins, trained without {left_out}.",
            "systems": others,
            "left_out": left_out,
            "split": f"lopo-{left_out}",
            "balance": "frames",
            "frame_stride": {key: settings.stride_of(key) for key in others},
        }
    shared = {
        "network": settings.network,
        "optimiser": settings.optimiser,
        "selection": settings.selection,
        "seed": 1,
        "licence": "MIT",
    }
    return {name: {"name": name} | own | shared for name, own in found.items()}


def config_text(name: str, values: dict[str, Any], folder: str = "baselines") -> str:
    """Return a configuration as the text of its file."""
    settings = registry.baseline_settings()
    strides = values["frame_stride"]
    thinned = strides > 1 if isinstance(strides, int) else any(n > 1 for n in strides.values())
    stated = f"Network and optimiser: {settings.settings_source}."
    if thinned:
        stated += (
            f" One in {settings.frame_stride} frames of the larger proteins: "
            f"{settings.frame_stride_source}."
        )
    lines = [
        f"# {stated}",
        "# Written by 'cgbench models configs'. Train it with",
        f"#   cgbench train {folder}/{name}/config.yaml --seeds {settings.seeds} --select",
    ]
    body = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
    return "\n".join(lines) + "\n" + body


def update_configs(folder: Path, *, check: bool = False) -> list[Path]:
    """Write the configuration of every baseline; return the files that were not up to date.

    Args:
        folder: Folder with one folder for each baseline.
        check: Change nothing.
    """
    changed = []
    for name, values in baseline_configs().items():
        path = folder / name / "config.yaml"
        text = config_text(name, values)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            changed.append(path)
            if not check:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(path, text)
    return changed
