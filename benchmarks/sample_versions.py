"""How well the versions of the embedded sample know their own averages.

    python benchmarks/sample_versions.py

Scores random halves of each version's trajectories against the other half (`md_split_half`), and
writes values with 95 % intervals, folded population and folding events to
`results/sample_versions.json`. Lower is better; a model cannot be told from the reference below it.
"""

import json
from pathlib import Path

from cgbench import provenance
from cgbench.evaluate import read_reference, reference_statistics
from cgbench.evaluate.rows import md_split_half
from cgbench.store import find_reference, open_store

SYSTEMS = ("chignolin-sample", "chignolin-sample-v2")
METRICS = ("w1_tic1", "w1_tic2", "fes_rmse", "rg_w1", "dihedral_js", "q_w1", "rmsd_w1")
OUT = Path(__file__).parent / "results" / "sample_versions.json"
SEED = 1


def main() -> None:
    versions = {}
    for system in SYSTEMS:
        bundle = read_reference(find_reference(system))
        statistics = reference_statistics(bundle, seed=SEED)
        row = md_split_half(bundle, seed=SEED, reference=statistics)
        metrics = row.result.metrics
        told = bundle.metadata
        versions[system] = {
            "store_fingerprint": bundle.store_fingerprint,
            "reference_fingerprint": bundle.fingerprint,
            "store_bytes": sum(
                path.stat().st_size for path in open_store(system).path.rglob("*") if path.is_file()
            ),
            "frames": told.n_frames,
            "folding_events": told.n_folding,
            "unfolding_events": told.n_unfolding,
            "folded_population": told.folded_population.model_dump(mode="json"),
            "split_half": {
                name: {key: getattr(metrics[name], key) for key in ("value", "lo", "hi")}
                for name in METRICS
                if name in metrics
            },
        }
    OUT.write_text(
        json.dumps(
            {"versions": versions, "provenance": provenance.collect().model_dump(mode="json")},
            indent=2,
        )
        + "\n",
        encoding="utf-8",
    )
    for name in METRICS:
        cells = [versions[system]["split_half"].get(name) for system in SYSTEMS]
        shown = [f"{c['value']:.3f} [{c['lo']:.3f}, {c['hi']:.3f}]" for c in cells if c]
        print(name, *shown)


if __name__ == "__main__":
    main()
