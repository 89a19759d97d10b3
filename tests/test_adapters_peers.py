"""TorchMD-Net itself, live: every architecture through the adapter gives what it gives."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cgbench.adapters.installed import is_importable

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "peers" / "adapters_torchmdnet.py"
#: Run where both are: this package first, the peer's environment after it.
COMPARE = """
import sys
sys.path.extend(sys.argv[3:])
from pathlib import Path
import numpy as np, torch
sys.path.insert(0, sys.argv[1])
import adapters_torchmdnet as peer
from cgbench.adapters import AdapterChoice, load_adapted
from cgbench.models import check_potential
from cgbench.testing.strategies import random_chains

folder = Path(sys.argv[2])
results = np.load(folder / "results.npz")
types, positions, systems = (torch.tensor(array) for array in peer.chains(peer.SEED + 1))
sample = {"sample": (types[:10], torch.tensor(random_chains(2, 10, 3), dtype=torch.float32))}
for case in peer.CASES:
    choice = AdapterChoice("torchmdnet")
    adapted = load_adapted(choice, folder / f"{case}.ckpt", trust=True, name=case)
    report = check_potential(adapted.potential, sample)
    wrong = ",".join(check.name for check in report.failed) or "none"
    for precision in ("float32", "float64"):
        dtype = getattr(torch, precision)
        energy, forces = adapted.potential.to(dtype)(types, positions.to(dtype), systems)
        for name, found in (("energies", energy), ("forces", forces)):
            expected = results[f"{case}/{precision}/{name}"]
            scale = max(1.0, float(np.sqrt(np.mean(expected**2))))
            difference = float(np.abs(found.numpy() - expected).max()) / scale
            print("row", case, adapted.identity.foreign_code, precision, name, difference, wrong)
"""
NATIVE = {f"graph-network{part}" for part in ("", "-double", "-silu", "-gauss")}
#: Weights in double precision are rounded to single where they are converted.
BOUNDS = {"float32": 1e-5, "float64": 1e-12}


def environment() -> tuple[str, list[str]]:
    """The peer's interpreter, and what to add to the path of ours."""
    python = os.environ.get("CGBENCH_TEST_PEERS")
    if python is None:
        if is_importable("torchmdnet"):
            return sys.executable, []
        pytest.skip("CGBENCH_TEST_PEERS does not name an interpreter that has torchmd-net")
    code = (
        "import sys, sysconfig; print(sysconfig.get_path('purelib')); print(sys.version_info[:2])"
    )
    asked = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    folder, version = asked.stdout.splitlines()
    if version != str(sys.version_info[:2]):
        pytest.skip(f"the peer's Python is {version}, this one {sys.version_info[:2]}")
    return python, [folder]


@pytest.mark.slow
def test_every_architecture_is_what_the_package_says(tmp_path: Path) -> None:
    python, paths = environment()
    subprocess.run([python, str(SCRIPT), "--make", str(tmp_path)], check=True, capture_output=True)
    command = [sys.executable, "-c", COMPARE, str(SCRIPT.parent), str(tmp_path), *paths]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    rows = [line.split()[1:] for line in ran.stdout.splitlines() if line.startswith("row ")]
    assert len({row[0] for row in rows}) >= 8
    for case, foreign, precision, name, difference, wrong in rows:
        assert (foreign == "False") == (case in NATIVE), case
        bound = 1e-5 if case == "graph-network-double" else BOUNDS[precision]
        assert float(difference) <= bound, (case, precision, name)
        # What a model does is its own affair; that it is called rightly shows in these checks.
        called_rightly = {"interface", "finite", "forces_are_gradient", "no_leak", "system_order"}
        assert not called_rightly & set(wrong.split(",")), (case, wrong)
        print(case, precision, name, difference, wrong)
    assert np.isfinite([float(row[4]) for row in rows]).all()
