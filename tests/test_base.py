"""Units, errors, configuration files and provenance."""

import json
import os
import stat
from pathlib import Path

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgbench import config, units
from cgbench.errors import (
    CgbenchError,
    IntegrityError,
    SimulationError,
    UsageError,
    ValidationError,
)
from cgbench.provenance import collect, hardware


class Settings(config.Frozen):
    name: str
    value: float = 1.0


def test_boltzmann_constant_is_the_gas_constant_in_kcal() -> None:
    # 1 kcal = 4184 J; R = 8.314462618 J/mol/K (CODATA 2018); k_B T at 300 K is 0.5962 kcal/mol.
    assert units.thermal_energy(300.0) == pytest.approx(0.59616, abs=1e-5)
    # One kcal/mol/Å on one amu: 4184 J/mol / (1e-3 kg/mol · 1e-10 m) = 4.184e16 m/s² = 418.4 Å/ps².
    assert pytest.approx(4184.0 / (1e-3 * 1e-10) * 1e10 / 1e24) == units.KCAL_PER_MOL
    # 100 steps a second of 4 fs are 86400·100·4e-3 ps a day.
    assert units.nanoseconds_per_day(100.0, 0.004) == pytest.approx(34.56)


@pytest.mark.parametrize(
    ("kind", "code"),
    [(UsageError, 2), (IntegrityError, 3), (ValidationError, 4), (SimulationError, 5)],
)
def test_errors_carry_exit_code_and_all_facts(kind: type[CgbenchError], code: int) -> None:
    error = kind("a.npy: wrong", expected=3, found=4, fix="write it again")
    assert error.exit_code == code
    assert str(error).splitlines() == [
        "a.npy: wrong",
        "  expected: 3",
        "  found:    4",
        "  to do:    write it again",
    ]


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
)
json_values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(json_values)
def test_canonical_json_is_a_fixed_point(value: object) -> None:
    text = config.canonical_json(value)
    assert config.canonical_json(json.loads(text)) == text


@given(st.dictionaries(st.text(max_size=8), st.integers(), min_size=2, max_size=6))
def test_fingerprint_ignores_key_order_and_sees_values(value: dict[str, int]) -> None:
    turned = dict(reversed(list(value.items())))
    assert config.fingerprint(turned) == config.fingerprint(value)
    key = next(iter(value))
    assert config.fingerprint(value | {key: value[key] + 1}) != config.fingerprint(value)


def test_not_a_number_has_no_canonical_form() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        config.canonical_json({"a": float("nan")})


def test_models_are_frozen_and_refuse_unknown_keys(tmp_path: Path) -> None:
    settings = Settings(name="a")
    with pytest.raises(pydantic.ValidationError):
        settings.value = 2.0
    path = tmp_path / "settings.yaml"
    path.write_text("name: a\nvalu: 3\n")
    with pytest.raises(ValidationError, match=r"settings.yaml: not a valid Settings") as caught:
        config.read_model(Settings, path)
    assert "valu" in str(caught.value)


@pytest.mark.parametrize("name", ["a.json", "a.yaml"])
def test_files_that_cannot_be_parsed_are_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("{ a: [")
    with pytest.raises(IntegrityError, match=name):
        config.read_data(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(IntegrityError, match="UTF-8"):
        config.read_data(path)
    with pytest.raises(UsageError, match="no such file"):
        config.read_data(tmp_path / "missing")


def test_yaml_never_makes_objects(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("!!python/object/apply:os.system ['touch owned']")
    with pytest.raises(IntegrityError):
        config.read_data(path)


def test_a_file_above_the_limit_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "MAX_TEXT_BYTES", 10)
    path = tmp_path / "a.json"
    path.write_text("[1, 2, 3, 4, 5, 6]")
    with pytest.raises(IntegrityError, match="too large"):
        config.read_data(path)


def test_atomic_write_replaces_or_leaves_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "deep" / "a.txt"
    config.write_atomic(path, "old")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        config.write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [item.name for item in path.parent.iterdir()] == ["a.txt"]


def test_data_home_comes_from_argument_then_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CGBENCH_HOME", str(tmp_path / "variable"))
    assert config.data_home(tmp_path / "argument") == tmp_path / "argument"
    assert config.data_home() == tmp_path / "variable"
    monkeypatch.delenv("CGBENCH_HOME")
    assert config.data_home().name == "cgbench"


def test_provenance_names_versions_seeds_and_machine() -> None:
    found = collect({"training": 3})
    assert found.seeds == {"training": 3}
    assert {"numpy", "torch", "zarr"} <= set(found.packages)
    assert found.hardware == hardware()
    assert found.hardware.cores >= 1
