"""YAML from anywhere: read, or refused in one line within limits of depth, size and aliases; no pipe is waited for."""

import json
import os
import time
from dataclasses import dataclass

import pytest
from pydantic import TypeAdapter

from flowsr import settings
from flowsr.data.manifest import read_manifest
from flowsr.errors import FlowsrError
from flowsr.settings import apply_overrides, read_yaml

MANIFEST = "name: a\ndescription: d\nsource: s\nlicence: l\nfiles: {a: b.h5}\nvariables: {velocity: {irreps: 1o}}\n"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi")
)


def refused(read, *arguments):
    start = time.process_time()
    with pytest.raises(FlowsrError) as caught:
        read(*arguments)
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value) and len(str(caught.value)) < 1000
    assert time.process_time() - start < 60
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: " + "[" * 5000 + "]" * 5000, "32 deep"),
        ("a: " + "{b: " * 5000 + "}" * 5000, "32 deep"),
        (BOMB, "more than 50000 values"),
        (MANIFEST.replace("source: s", "source: *i") + BOMB, "undefined alias"),
        ("a: &a [*a]", "alias within"),
        ("a: [" + "1," * 60_000 + "]", "more than 50000 values"),
        ("a: " + "x" * (1 << 21), "too large"),
        ("a: !!timestamp 2001-99-99", "month"),
        ("a: !!int x", "invalid literal"),
        ("a: !!int ''", "not valid YAML"),
        ("a: !!float x", "could not convert"),
        ("a: !!bool x", "not valid YAML"),
        ("a: !!binary x", "base64"),
        ("a: " + "1" * 400, "a number too large"),
        ("a: 0x" + "f" * 4000, "a number too large"),
        ("!!python/object/apply:os.system [echo hi]", "could not determine a constructor"),
        ("? [a]\n: 2", "unhashable"),
        ("a: \0", "special characters"),
        ("\xff", "mapping of keys"),
    ],
    ids=lambda text: text[:20],
)
def test_what_is_not_read(tmp_path, text, words):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    assert words in refused(read_yaml, path)


@pytest.mark.parametrize(
    "line",
    [
        *("viscosity: !!int x", "viscosity: .nan", "1: 2", "null: 2", "times: !!set {a, b}", '"\\e]0;title\\a": 1'),
        *("grid: {cells: [1, 1, .inf], lengths: [1, 1, 1]}", "grid: {cells: {a: 1}, lengths: 1}"),
        f"viscosity: {'9' * 400}",
    ],
)
def test_values_that_do_not_suit_a_manifest(tmp_path, line):
    path = tmp_path / "a.yaml"
    path.write_text(MANIFEST + line + "\n")
    refused(read_manifest, path)


def test_a_date_is_text(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(MANIFEST.replace("source: s", "source: 2001-99-99"))
    assert read_manifest(path).source == "2001-99-99"


def test_an_alias_within_limits_is_what_it_stands_for(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("a: &a {b: [1, 2]}\nc: *a\nd: {<<: *a, e: 3}\n")
    assert read_yaml(path) == {"a": {"b": [1, 2]}, "c": {"b": [1, 2]}, "d": {"b": [1, 2], "e": 3}}


def test_a_long_chain_is_refused(tmp_path):
    for number in range(40):
        (tmp_path / f"{number}.yaml").write_text(f"extends: {number + 1}.yaml\n")
    (tmp_path / "40.yaml").write_text("a: 1\n")
    assert "extends too many files" in refused(read_yaml, tmp_path / "0.yaml")
    assert read_yaml(tmp_path / "30.yaml") == {"a": 1}


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.yaml")
    assert "a pipe" in refused(read_yaml, tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\n")
    assert "a pipe" in refused(read_yaml, tmp_path / "b.yaml")
    assert "a folder" in refused(read_yaml, tmp_path)


def test_an_override_has_the_same_limits():
    assert "not valid YAML" in refused(apply_overrides, {}, ["a=" + "[" * 5000])
    assert json.dumps(apply_overrides({}, ["a.b=[1, x]"])) == '{"a": {"b": [1, "x"]}}'


def test_a_parser_that_lost_count_is_asked_again(monkeypatch):
    @dataclass
    class Kind:
        cells: int

    asked = []

    def adapter(kind):
        asked.append(kind)
        if len(asked) == 1:
            raise SystemError("AST constructor recursion depth mismatch (before=72, after=123)")
        return TypeAdapter(kind)

    monkeypatch.setattr(settings, "TypeAdapter", adapter)
    assert settings.adapter(Kind).validate_python({"cells": 4}) == Kind(4) and asked == [Kind, Kind]
