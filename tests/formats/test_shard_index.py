"""Shard indexes and configs: what loaders read, and what has to be refused or explained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckpt_doctor.core.parts import ConfigFile, ShardIndex
from ckpt_doctor.formats import read_config, read_shard_index
from ckpt_doctor.formats.limits import Limits

NAME = "sub/model.safetensors.index.json"


@pytest.fixture
def index(tmp_path: Path) -> Path:
    return tmp_path / "index.json"


def read(path: Path, content: object) -> ShardIndex:
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return read_shard_index(path, NAME)


def test_an_index_as_transformers_writes_it(index: Path) -> None:
    weight_map = {"b": "model-00002-of-00002.safetensors", "a": "model-00001-of-00002.safetensors"}
    found = read(index, {"metadata": {"total_parameters": 5, "total_size": 10}, "weight_map": weight_map})
    assert found == ShardIndex(NAME, "safetensors", weight_map, 10)
    assert read_shard_index(index, "pytorch_model.bin.index.json").format == "torch"


def test_shards_in_a_folder_below(index: Path) -> None:
    assert read(index, {"weight_map": {"a": "parts/one.safetensors", "b": "..hidden"}}).escaping == ()


def test_shard_names_that_lead_out(index: Path) -> None:
    names = [
        "../a",
        "/no/such/a",
        "C:\\a",
        "c:a",
        "parts\\..\\..\\a",
        "x/../../a",
        "..",
        "a\0b",
        "~/a",
        "\\\\host\\a",
    ]
    found = read(index, {"weight_map": {str(number): name for number, name in enumerate(names)}})
    assert found.error is None
    assert found.escaping == tuple(sorted(names))


@pytest.mark.parametrize(
    ("metadata", "size"),
    [
        ({"total_size": 7}, 7),
        ({"total_size": 7.0}, 7),
        ({"total_size": "7"}, None),
        ({"total_size": True}, None),
        ({"total_size": float("nan")}, None),
        ({"total_size": float("inf")}, None),
        ({"total_size": 10**400}, None),
        ({}, None),
        ([], None),
        (None, None),
    ],
)
def test_total_size(index: Path, metadata: object, size: int | None) -> None:
    found = read(index, {"metadata": metadata, "weight_map": {"a": "b"}})
    assert (found.error, found.total_size) == (None, size)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"{", "line 1, column 2"),
        (b'{"a": 1,\n "b"}', "line 2, column 5"),
        (b"<html>", "not JSON"),
        (b"\xff\xfe{", "not UTF-8"),
        (b"[" * 201 + b"]" * 201, "nested too deeply"),
        (b"9" * 5000, "digits"),
        ([], "not an object"),
        ({}, "no weight_map"),
        ({"weight_map": []}, "not an object"),
        ({"weight_map": {"a": 1}}, "no file name for a"),
        ({"weight_map": {"a": None, "b": "x", "c": ""}}, "no file name for a, c"),
        (b'{"weight_map": {"a": "x", "a": "y"}}', "lists a more than once"),
        (b'{"weight_map": {}, "weight_map": {"a": "y"}}', "two weight_maps"),
    ],
)
def test_what_is_no_index_says_why(index: Path, content: object, words: str) -> None:
    found = read(index, content)
    assert found.error is not None
    assert words in found.error
    assert (found.weight_map, found.escaping, found.unreadable) == ({}, (), False)


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent", tmp_path / "a\0b"):
        assert read_shard_index(path, NAME).unreadable
        assert read_config(path, NAME).unreadable


def test_files_that_are_too_large(index: Path) -> None:
    index.write_text('{"weight_map": {}}')
    small = Limits(config_file=10, index_file=10)
    for found in (read_shard_index(index, NAME, small), read_config(index, NAME, small)):
        assert found.error == "it is 18 B long, and more than 10 B is not read"
        assert not found.unreadable
    for found in (read_shard_index(index, NAME), read_config(index, NAME)):
        assert found.error is None


@pytest.mark.parametrize(("start", "end"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_files_that_are_nested_too_deeply(index: Path, start: bytes, end: bytes) -> None:
    index.write_bytes(b'{"weight_map": {}, "b":' + start * 8 + b"1" + end * 8 + b"}")
    for depth, error in ((9, None), (8, "it is not JSON: it is nested too deeply")):
        limits = Limits(json_depth=depth)
        assert read_config(index, NAME, limits).error == error
        assert read_shard_index(index, NAME, limits).error == error


def test_what_the_parser_itself_gives_up_on(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def give_up(*_: object, **__: object) -> object:
        raise RecursionError

    index.write_text("{}")
    monkeypatch.setattr("json.loads", give_up)
    assert read_config(index, NAME).error == "it is not JSON: it is nested too deeply"


@pytest.mark.parametrize(
    ("content", "data"),
    [
        (b'{"r": 16}', {"r": 16}),
        (b'\xef\xbb\xbf{"r": 16}', {"r": 16}),
        (b'{"r": 8, "r": 16}', {"r": 16}),
        (b'{"r": Infinity}', {"r": float("inf")}),
    ],
)
def test_configs_that_loaders_read(index: Path, content: bytes, data: object) -> None:
    index.write_bytes(content)
    assert read_config(index, "adapter_config.json") == ConfigFile("adapter_config.json", data)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b"null", b'"text"', b"\x80\x02.", b'{"a":' * 50, b"[" * 201 + b"]" * 201]
)
def test_configs_that_loaders_do_not_read(index: Path, content: bytes) -> None:
    index.write_bytes(content)
    found = read_config(index, "config.json")
    assert found.data is None
    assert found.error
    assert not found.unreadable


@settings(max_examples=50)
@given(content=st.binary(max_size=60))
def test_any_bytes_give_an_answer(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    for text in (content, b'{"weight_map": {"a": "' + content + b'"}}'):
        path.write_bytes(text)
        index, config = read_shard_index(path, NAME), read_config(path, NAME)
        assert (index.error is None) or index.weight_map == {}
        assert (config.error is None) == (config.data is not None)
