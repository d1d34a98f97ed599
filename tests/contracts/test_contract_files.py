"""Contract files: what was written is read again, and whatever anybody else wrote is refused in our own words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ckpt_doctor
from ckpt_doctor.contracts import reading
from ckpt_doctor.contracts.reading import read_contract
from ckpt_doctor.core.contract import Contract, PinnedPart, PinnedTensor
from ckpt_doctor.core.dtypes import BY_NAME
from ckpt_doctor.core.errors import ContractError

names = st.text(max_size=8)
scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
config_values = st.recursive(
    scalars | names, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=4
)
digests = st.none() | st.binary(min_size=32, max_size=32).map(bytes.hex)
dtypes = st.sampled_from(sorted(BY_NAME))
pins = st.builds(PinnedTensor, dtypes, st.lists(st.integers(0, 2**40), max_size=4).map(tuple), digests, st.none())
parts = st.builds(
    PinnedPart,
    names,
    names,
    st.dictionaries(names, pins, max_size=4),
    st.none() | st.dictionaries(names, config_values, max_size=3),
    st.dictionaries(names, names, max_size=2),
)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(layout=names, parts=st.lists(parts, min_size=1, max_size=3, unique_by=lambda part: (part.role, part.name)))
def test_there_and_back(layout: str, parts: list[PinnedPart], tmp_path_factory: pytest.TempPathFactory) -> None:
    contract = Contract(layout, tuple(parts))
    path = tmp_path_factory.mktemp("contract") / "c.json"
    path.write_text(contract.to_json())
    assert read_contract(path) == contract._replace(source=str(path))
    assert json.loads(path.read_text())["tool"]["version"] == ckpt_doctor.__version__
    # A line for each tensor, so that a version control system shows which changed.
    lines = path.read_text().splitlines()
    assert sum('"dtype": ' in line for line in lines) >= contract.tensors


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(
    data=st.binary(max_size=200)
    | st.recursive(scalars | names, lambda i: st.lists(i) | st.dictionaries(names, i)).map(
        lambda value: json.dumps(value).encode()
    )
)
def test_any_bytes_are_refused_in_our_own_words(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("contract") / "c.json"
    path.write_bytes(data)
    with pytest.raises(ContractError):
        read_contract(path)


def good() -> dict[str, Any]:
    pin = {"dtype": "float32", "shape": [2, 3], "sha256": "ab" * 32}
    part = {"role": "adapter", "name": "adapter", "info": {"files": {}}, "config": {"r": 8}, "tensors": {"w": pin}}
    return {
        "schema_version": 1,
        "kind": "ckpt-doctor contract",
        "tool": {"name": "ckpt-doctor", "version": "0.1"},
        "layout": "peft",
        "parts": [part],
    }


def put(*path: Any) -> Callable[[dict[str, Any]], None]:
    """Set the value that stands last at the place that stands before it."""

    def change(data: Any) -> None:
        for step in path[:-2]:
            data = data[step]
        data[path[-2]] = path[-1]

    return change


TENSOR = ("parts", 0, "tensors", "w")
WRONG = {
    "another kind": (put("kind", "report"), '"kind"'),
    "newer": (put("schema_version", 2), "schema_version 2, of a newer ckpt-doctor: update, or lock again"),
    "version is true": (put("schema_version", True), "schema_version"),
    "version is a float": (put("schema_version", 1.0), "schema_version"),
    "version is text": (put("schema_version", "1"), "schema_version"),
    "version is zero": (put("schema_version", 0), "schema_version"),
    "unknown entry": (put("strict", True), "it says strict, which would not be checked"),
    "no parts": (put("parts", []), "parts"),
    "parts is an object": (put("parts", {}), "parts"),
    "part is a list": (put("parts", 0, []), "part 1 is not an object"),
    "unknown entry of a part": (put("parts", 0, "optional", True), "optional"),
    "role is a number": (put("parts", 0, "role", 1), "part 1 has no role"),
    "layout is null": (put("layout", None), "it has no layout"),
    "tensors is a list": (put("parts", 0, "tensors", []), "part 1 has no tensors"),
    "tensor is null": (put(*TENSOR, None), "w in part 1 is not an object"),
    "unknown entry of a tensor": (put(*TENSOR, "shap", []), "w in part 1 says shap"),
    "dtype does not exist": (put(*TENSOR, "dtype", "float33"), "w in part 1 has a dtype that does not exist: float33"),
    "dtype is null": (put(*TENSOR, "dtype", None), "w in part 1 has no dtype"),
    "shape is text": (put(*TENSOR, "shape", "2x3"), "the shape of w"),
    "shape holds true": (put(*TENSOR, "shape", [True]), "not a size"),
    "shape holds a float": (put(*TENSOR, "shape", [2.0]), "not a size"),
    "shape is negative": (put(*TENSOR, "shape", [-1]), "not a size"),
    "shape is beyond all numbers": (put(*TENSOR, "shape", [10**30]), "not a size"),
    "a thousand dimensions": (put(*TENSOR, "shape", [1] * 1000), "the shape of w"),
    "digest is short": (put(*TENSOR, "sha256", "abc"), "64 lower-case hex digits"),
    "digest is upper case": (put(*TENSOR, "sha256", "AB" * 32), "64 lower-case hex digits"),
    "digest is a number": (put(*TENSOR, "sha256", 5), "64 lower-case hex digits"),
    "same as nothing": (put(*TENSOR, "same_as", "x"), "same_as a tensor that is not pinned"),
    "same as null": (put(*TENSOR, "same_as", None), "same_as"),
    "config is a list": (put("parts", 0, "config", []), "the config of part 1"),
    "config holds NaN": (put("parts", 0, "config", "r", float("nan")), "a setting cannot have"),
    "config is nested": (put("parts", 0, "config", "r", json.loads("[" * 50 + "]" * 50)), "a setting cannot have"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_would_not_be_checked_is_refused(name: str, tmp_path: Path) -> None:
    change, said = WRONG[name]
    document = good()
    path = tmp_path / "c.json"
    path.write_text(json.dumps(document))
    assert read_contract(path).tensors == 1
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(ContractError) as refused:
        read_contract(path)
    assert said in str(refused.value)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"layout": "peft"', '"layout": "peft", "layout": "weaver"'),
        ('"r": 8', '"r": 8, "r": 16'),
        ('"w": {', '"w": {"dtype": "float32", "shape": []}, "w": {'),
        ('"dtype": "float32"', '"dtype": "float32", "dtype": "float16"'),
        ('"parts": [', '"parts": [], "parts": ['),
    ],
)
def test_a_name_that_stands_twice_is_refused(old: str, new: str, tmp_path: Path) -> None:
    text = json.dumps(good())
    assert old in text
    path = tmp_path / "c.json"
    path.write_text(text.replace(old, new))
    with pytest.raises(ContractError, match="more than once"):
        read_contract(path)


def test_two_parts_of_one_name_are_refused(tmp_path: Path) -> None:
    document = good()
    document["parts"] *= 2
    path = tmp_path / "c.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ContractError, match="two of its parts"):
        read_contract(path)


def test_information_binds_to_nothing(tmp_path: Path) -> None:
    document = good()
    document["tool"] = ["whatever"]
    document["parts"][0]["info"] = {"files": {"a": 1, "b": "x"}, "note": [None]}
    path = tmp_path / "c.json"
    path.write_text(json.dumps(document))
    assert read_contract(path).parts[0].files == {"b": "x"}


@pytest.mark.parametrize("text", ["[" * 201 + "]" * 201, '{"a":' * 100, "9" * 10_000, "\ud800", "\x00", "NaN"])
def test_what_no_parser_of_ours_takes(text: str, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ContractError):
        read_contract(path)


def test_files_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_NBYTES", 100)
    (tmp_path / "long.json").write_text(json.dumps(good()))
    (tmp_path / "loop.json").symlink_to("loop.json")
    for name in ("long.json", "loop.json", "absent.json", "", "a\0b"):
        with pytest.raises(ContractError, match="cannot read the contract"):
            read_contract(tmp_path / name)
