from __future__ import annotations

import json
import os
from datetime import UTC, datetime

import pytest

from artfs.cli import output


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1258291, "1.2 MiB"),
        (1024**2 - 1, "1.0 MiB"),
        (1000 * 1024, "1.0 MiB"),
        (999 * 1024, "999.0 KiB"),
        (3 * 1024**4, "3.0 TiB"),
        (1024**7, "1024.0 EiB"),
    ],
)
def test_human_size(size: int, shown: str) -> None:
    assert output.human_size(size) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain name.csv", "plain name.csv"),
        ("Citroën 日本", "Citroën 日本"),
        ("red\x1b[31m", "red\\x1b[31m"),
        ("two\nlines\r\t", "two\\nlines\\r\\t"),
        (os.fsdecode(b"latin-\xe9"), "latin-\\xe9"),
        ("right\u202eto left", "right\\u202eto left"),
        ("line\u2028sep", "line\\u2028sep"),
        ("tag\U000e0041", "tag\\U000e0041"),
    ],
)
def test_escape(text: str, shown: str) -> None:
    assert output.escape(text) == shown
    assert output.escape(text).isprintable()


def test_times() -> None:
    when = datetime(2026, 11, 1, 8, 30, 0, 120000, tzinfo=UTC)
    assert output.iso_time(when) == "2026-11-01T08:30:00.120000Z"
    assert output.local_time(when) == when.astimezone().strftime("%Y-%m-%d %H:%M")


def test_json_times_are_utc_and_odd_bytes_survive(capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode(b"\xff\n")
    output.emit_json({"at": datetime(2026, 1, 2, tzinfo=UTC), "name": name})
    found = json.loads(capsys.readouterr().out)
    assert found["at"] == "2026-01-02T00:00:00Z"
    assert os.fsencode(found["name"]) == b"\xff\n"


def test_json_refuses_what_it_does_not_know() -> None:
    with pytest.raises(TypeError, match="object"):
        output.emit_json(object())


def test_table_aligns_and_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(["NAME", "SIZE"], [["a\x07", "1 B"], ["long name", "20 B"]], right=[1])
    assert capsys.readouterr().out == "NAME       SIZE\na\\x07       1 B\nlong name  20 B\n"


def test_columns_stand_below_each_other_whatever_the_script(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(["N", "S"], [["日本", "1"], ["cafe\u0301", "2"], ["abc", "3"]])
    assert capsys.readouterr().out == "N     S\n日本  1\ncafe\u0301  2\nabc   3\n"


def test_an_empty_table_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(["NAME"], [])
    assert capsys.readouterr().out == ""


def test_fields_leave_out_what_is_empty(capsys: pytest.CaptureFixture[str]) -> None:
    output.fields([("name", "x"), ("description", ""), ("size", "1 B")])
    assert capsys.readouterr().out == "name:  x\nsize:  1 B\n"


@pytest.mark.parametrize(
    ("count", "noun", "shown"),
    [(0, "file", "0 files"), (1, "file", "1 file"), (20000, "entry", "20,000 entries")],
)
def test_plural(count: int, noun: str, shown: str) -> None:
    assert output.plural(count, noun) == shown
