"""Result files: round trips, refusals, migration, tables and schemas."""

import contextlib
import json
import math

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgbench import provenance, registry
from cgbench.config import Frozen
from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.results import (
    COLUMNS,
    MAX_RESULT_BYTES,
    MetricValue,
    ModelIdentity,
    PairedDifference,
    ProtocolIdentity,
    ReferenceIdentity,
    Result,
    SystemResult,
    export_schemas,
    migrate,
    read_result,
    to_frame,
    write_result,
)

FINGERPRINT = "sha256:" + "0" * 64


def make_result(**changes):
    values = {
        "suite_version": "0.1.0",
        "model": ModelIdentity(name="a", hash=FINGERPRINT, kind="potential", spec={"n": [1, "x"]}),
        "protocol": ProtocolIdentity(id="demo", version=1),
        "reference": ReferenceIdentity(version="v1", fingerprints={"chignolin": FINGERPRINT}),
        "metrics_versions": {"rg_w1": 1, "native_population": 1},
        "seeds": {"replicas": 1},
        "provenance": provenance.collect({"replicas": 1}),
        "wall_time_s": 12.5,
        "systems": (
            SystemResult(
                system="chignolin",
                status="ok",
                metrics={
                    "rg_w1": MetricValue(value=0.3, lo=0.1, hi=0.5, n_eff=20.0),
                    "native_population": MetricValue(value=0.2, target=0.4),
                },
            ),
            SystemResult(system="bba", status="missing", reason="cgbench download bba"),
        ),
    }
    return Result(**(values | changes))


def as_data(result):
    return json.loads(result.model_dump_json())


def test_a_result_is_read_as_it_was_written(tmp_path):
    result = make_result()
    write_result(tmp_path / "result.json", result)
    assert read_result(tmp_path / "result.json") == result
    assert result.system("bba").status == "missing"
    assert result.system("villin") is None


@given(
    value=st.floats(allow_nan=False, allow_infinity=False),
    width=st.floats(0, 1e6),
    note=st.text(st.characters(categories=("L", "N", "P", "S", "Zs")), max_size=200),
)
def test_any_value_survives_a_round_trip(value, width, note):
    printable = "".join(letter for letter in note if letter.isprintable())
    first = MetricValue(value=value, lo=value - width, hi=value + width, note=printable)
    assert MetricValue.model_validate_json(first.model_dump_json()) == first


def put(data, place, value):
    *path, last = place
    for step in path:
        data = data[step]
    data[last] = value


METRIC = ("systems", 0, "metrics", "rg_w1")


@pytest.mark.parametrize(
    ("place", "value", "word"),
    [
        ((*METRIC, "value"), math.nan, "finite"),
        ((*METRIC, "value"), math.inf, "finite"),
        ((*METRIC, "value"), None, "has a value"),
        ((*METRIC, "lo"), 0.9, "above its upper"),
        ((*METRIC, "lo"), None, "two ends"),
        ((*METRIC, "n_eff"), -1.0, "greater than or equal"),
        ((*METRIC, "status"), "good", "Input should be"),
        ((*METRIC, "status"), "n/a", "no value"),
        ((*METRIC, "note"), "\x1b[31mred", "control characters"),
        ((*METRIC, "note"), "x" * 3000, "at most 2000"),
        ((*METRIC, "surprise"), 1, "not permitted"),
        (("model", "name"), "two\nlines", "line breaks"),
        (("model", "name"), "", "at least 1"),
        (("model", "hash"), "md5:abc", "match pattern"),
        (("metrics_versions",), {"rg_w1": 1}, "without a version: native_population"),
        (("reference", "fingerprints"), {}, "without a reference fingerprint: chignolin"),
        (("systems", 1, "system"), "chignolin", "occurs twice"),
        (("systems", 1, "reason"), None, "says why"),
        (("systems",), [], "at least 1"),
        (("wall_time_s",), -3.0, "greater than or equal"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, place, value, word):
    data = as_data(make_result())
    put(data, place, value)
    path = tmp_path / "result.json"
    path.write_text(json.dumps(data))
    with pytest.raises(ValidationError, match=word) as error:
        read_result(path)
    assert str(path) in str(error.value)
    assert error.value.exit_code == 4


@pytest.mark.parametrize(
    ("content", "error", "word"),
    [
        ("{", IntegrityError, "cannot be parsed"),
        ("[]", IntegrityError, "not a result file"),
        ("[" * 100_000, IntegrityError, "cannot be parsed"),
        ('{"format": "cgbench-split", "version": 1}', IntegrityError, "not a result file"),
        ('{"format": "cgbench-result", "version": 99}', IntegrityError, "update cgbench"),
        ('{"format": "cgbench-result", "version": true}', IntegrityError, "cannot be read"),
        ('{"format": "cgbench-result", "version": 0}', IntegrityError, "cannot be read"),
        ('{"format": "cgbench-result", "version": 1}', ValidationError, "Field required"),
        (" " * (MAX_RESULT_BYTES + 1), IntegrityError, "too large"),
    ],
)
def test_files_that_are_no_results(tmp_path, content, error, word):
    path = tmp_path / "result.json"
    path.write_text(content)
    with pytest.raises(error, match=word):
        read_result(path)


def test_deep_nesting_in_the_free_part_is_no_crash(tmp_path):
    data = as_data(make_result())
    data["model"]["spec"] = {"deep": "HERE"}
    path = tmp_path / "result.json"
    path.write_text(json.dumps(data).replace('"HERE"', "[" * 900 + "]" * 900))
    with contextlib.suppress(ValidationError, IntegrityError):
        assert read_result(path).model.name == "a"


def test_names_of_files(tmp_path):
    with pytest.raises(UsageError, match="no such result"):
        read_result(tmp_path / "none.json")
    with pytest.raises(UsageError, match="JSON"):
        write_result(tmp_path / "result.yaml", make_result())
    (tmp_path / "result.yaml").write_text("format: cgbench-result")
    with pytest.raises(UsageError, match="JSON"):
        read_result(tmp_path / "result.yaml")


def test_migration_runs_every_step_once():
    steps = {
        1: lambda data: {**data, "version": 2, "trail": [*data.get("trail", []), 1]},
        2: lambda data: {**data, "version": 3, "trail": [*data["trail"], 2]},
    }
    data = {"format": "cgbench-result", "version": 1}
    assert migrate(data, "x", steps, current=3)["trail"] == [1, 2]
    assert migrate({**data, "version": 3}, "x", steps, current=3) == {**data, "version": 3}
    with pytest.raises(IntegrityError, match="cannot be read"):
        migrate(data, "x", {2: steps[2]}, current=3)
    with pytest.raises(IntegrityError, match="leads nowhere"):
        migrate(data, "x", {1: lambda data: data}, current=3)


def test_table_has_a_row_for_each_value_and_each_failure():
    frame = to_frame(
        [make_result(), make_result(model=ModelIdentity(name="b", hash=None, kind="ensemble"))]
    )
    assert list(frame.columns) == list(COLUMNS)
    assert len(frame) == 6
    row = frame[(frame.model == "a") & (frame.metric == "rg_w1")].iloc[0]
    assert (row.value, row.lo, row.hi, row.n_eff) == (0.3, 0.1, 0.5, 20.0)
    assert (row.unit, row.direction, row.status) == (registry.metric("rg_w1").unit, "min", "ok")
    lost = frame[frame.system == "bba"].iloc[0]
    assert lost.status == "missing"
    assert lost.note == "cgbench download bba"
    assert math.isnan(lost.value)
    assert to_frame(make_result()).shape == (3, len(COLUMNS))
    assert to_frame([]).empty


def test_table_of_metrics_that_this_version_does_not_know():
    value = SystemResult(system="chignolin", status="ok", metrics={"later": MetricValue(value=1.0)})
    frame = to_frame(make_result(systems=(value,), metrics_versions={"later": 1}))
    assert frame.iloc[0].value == 1.0
    assert frame.iloc[0].unit is None or math.isnan(frame.iloc[0].unit)


def test_differences_know_whether_they_mean_anything():
    common = {"metric": "rg_w1", "a": "x", "b": "y"}
    assert PairedDifference(**common, diff=-1.0, lo=-2.0, hi=-0.1).significant
    assert not PairedDifference(**common, diff=-1.0, lo=-2.0, hi=0.1).significant


def test_schemas_are_the_same_twice_and_describe_the_files(tmp_path):
    class Small(Frozen):
        """A format."""

        number: int = pydantic.Field(ge=0)

    models = {"result": Result, "a-small": Small}
    written = export_schemas(tmp_path / "one", models)
    assert [path.name for path in written] == ["a-small.schema.json", "result.schema.json"]
    again = export_schemas(tmp_path / "two", dict(reversed(models.items())))
    assert [path.read_bytes() for path in written] == [path.read_bytes() for path in again]
    schema = json.loads(written[1].read_text())
    assert schema["properties"]["format"]["const"] == "cgbench-result"
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) <= set(as_data(make_result()))
