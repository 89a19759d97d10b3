"""The benchmark of graphics processors: at toy size, where it cannot run, and its page."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
COMMAND = [sys.executable, str(BENCHMARKS / "simulation_gpu.py")]


def test_at_toy_size(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    subprocess.run([*COMMAND, "--twin", "--out", str(out)], check=True, capture_output=True)
    found = json.loads(out.read_text(encoding="utf-8"))
    assert [row["n_replicas"] for row in found["simulations"]] == [2, 4]
    for row in found["simulations"]:
        assert row["status"] == "ok"
        assert row["replica_steps"] == pytest.approx(row["ours"] * row["n_replicas"])
        assert row["floor_ratio"] > 1.0
        assert row["engine"].startswith("plain torch")
    assert [row["status"] for row in found["training"]] == ["ok", "ok", "left out"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_device(tmp_path: Path) -> None:
    done = subprocess.run([*COMMAND, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 2
    assert "no graphics processor" in done.stderr
    assert "--twin" in done.stderr


def test_tables_are_those_of_the_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    import simulation_gpu_tables

    page = simulation_gpu_tables.PAGE.read_text(encoding="utf-8")
    assert simulation_gpu_tables.filled(page) == page


def test_tables_show_figures_and_what_is_the_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    import simulation_gpu_tables

    good = {
        "case": "chignolin", "n_beads": 10, "n_replicas": 32, "status": "ok", "ours": 5000.4,
        "replica_steps": 160012.8, "peer": {"eager": 20.0, "cuda graph": 40.0}, "ratio": 125.0,
        "floor_ratio": 3.21, "peak_megabytes": 99.6,
    }  # fmt: skip
    full = {"case": "lambda", "n_beads": 80, "n_replicas": 8192, "status": "out of memory"}
    found = {"simulations": [good, {**full, "peer": {}}]}
    speed = simulation_gpu_tables.speed(found).splitlines()
    assert speed[2:] == ["| `chignolin` | 10 | 5000 | 40.0 | 125 | 3.2 |"]
    curve = simulation_gpu_tables.saturation(found).splitlines()
    assert curve[2] == "| `chignolin` | 32 | 5000 | 1.6e+05 | 100 |"
    assert curve[3] == "| `lambda` | 8192 | out of memory | – | – |"
