"""The safetensors reader: what the real library writes, what it refuses, and whatever else a file may hold."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ckpt_doctor.core.defects import DefectKind
from ckpt_doctor.core.dtypes import BY_SAFETENSORS
from ckpt_doctor.core.weight_file import WeightFile
from ckpt_doctor.formats import read_weight_file, safetensors
from ckpt_doctor.formats.limits import LIMITS, Limits
from ckpt_doctor.formats.recognise import recognise
from ckpt_doctor.sources.in_memory import BytesSource

library = pytest.importorskip("safetensors")
torch = pytest.importorskip("torch")
from safetensors.torch import save, save_file  # noqa: E402

DTYPES = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e4m3fnuz,
    torch.float8_e5m2,
    torch.float8_e5m2fnuz,
    torch.float8_e8m0fnu,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint64,
    torch.uint32,
    torch.uint16,
    torch.uint8,
    torch.bool,
    torch.complex64,
)


def build(header: object, data: bytes = b"", *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype: str = "U8", shape: object = (1,), offsets: object = (0, 1), **more: object) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}


def read(data: bytes, limits: Limits = LIMITS) -> WeightFile:
    return safetensors.read(BytesSource(data), "m.safetensors", limits)


def accepted(data: bytes) -> bool:
    try:
        library.deserialize(data)
    except library.SafetensorError:
        return False
    return True


# What real files hold


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_that_torch_can_save(dtype: torch.dtype, tmp_path: Path) -> None:
    tensors = {
        "matrix": torch.zeros(3, 4).to(dtype),
        "scalar": torch.ones(()).to(dtype),
        "none": torch.zeros(0, 5).to(dtype),
        "größe.\n\0": torch.ones(2).to(dtype),
    }
    save_file(tensors, tmp_path / "m.safetensors", metadata={"format": "pt"})
    file = read_weight_file(tmp_path / "m.safetensors", "sub/m.safetensors")
    raw = (tmp_path / "m.safetensors").read_bytes()
    assert (file.path, file.format, file.nbytes, file.defects) == ("sub/m.safetensors", "safetensors", len(raw), ())
    assert file.metadata == {"format": "pt"}
    assert set(file.by_name) == set(tensors)
    for name, tensor in tensors.items():
        info = file.by_name[name]
        assert (info.dtype.name, info.shape, info.path) == (str(dtype)[6:], tuple(tensor.shape), (name,))
        assert info.stride == tensor.stride()
        assert info.is_contiguous
        assert info.byte_range is not None
        expected = tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
        assert raw[slice(*info.byte_range)] == expected


def test_an_empty_state_dict() -> None:
    file = read(save({}, metadata={"format": "pt"}))
    assert (file.tensors, file.defects, file.metadata) == ((), (), {"format": "pt"})
    assert read(save({})).metadata is None


def test_sub_byte_and_unaligned_tensors() -> None:
    header = {
        "f4": entry("F4", [4], [0, 2]),
        "f6": entry("F6_E3M2", [2, 2], [2, 5]),
        "f32": entry("F32", [1], [5, 9]),
        "nothing": entry("F32", [0], [9, 9]),
    }
    data = build(header, bytes(9))
    assert accepted(data)
    file = read(data)
    assert file.defects == ()
    assert [(info.name, info.nbytes) for info in file.tensors] == [("f4", 2), ("f6", 3), ("f32", 4), ("nothing", 0)]
    assert [info.byte_range[1] - info.byte_range[0] for info in file.tensors if info.byte_range] == [2, 3, 4, 0]


def test_the_table_of_dtypes_is_that_of_the_library() -> None:
    message = ""
    try:
        library.deserialize(build({"a": entry("nonsense")}, b"x"))
    except library.SafetensorError as error:
        message = str(error)
    names = message.partition("expected one of ")[2].partition(" at line")[0]
    assert {name.strip(" `") for name in names.split(",")} == set(BY_SAFETENSORS)


# What the library says about headers, and so do we

WHOLE = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
AGREED: dict[str, bytes] = {
    "nothing": build({}),
    "spaces around": build(b"  {} \n\t "),
    "zero bytes behind": build(b"{}\0\0"),
    "trailing junk": build(b"{}x"),
    "not an object": build([]),
    "empty header": build(b""),
    "cut header": build({"a": entry()}, length=300),
    "huge length": build({}, length=10**9),
    "longest length": build({}, length=2**64 - 1),
    "byte order mark": build(b"\xef\xbb\xbf{}"),
    "not UTF-8": build(b'{"\xff":1}'),
    "control character": build(b'{"a\n":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'),
    "lone surrogate": build(b'{"\\ud800":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'),
    "surrogate pair": build(b'{"\\ud83d\\ude00":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'),
    "NaN": build(b'{"a":NaN}'),
    "metadata null": build({"__metadata__": None}),
    "metadata number": build({"__metadata__": {"a": 1}}),
    "metadata none": build({"__metadata__": {"a": None}}),
    "metadata list": build({"__metadata__": []}),
    "metadata surrogate": build(b'{"__metadata__":{"a":"\\udc00"}}'),
    "metadata repeats": build(b'{"__metadata__":{"a":"1","a":"2"}}'),
    "two metadata": build(b'{"__metadata__":{},"__metadata__":{}}'),
    "whole": build(WHOLE, b"x"),
    "one byte short": build(WHOLE),
    "one byte long": build(WHOLE, b"xx"),
    "empty name": build({"": entry()}, b"x"),
    "field twice": build(WHOLE.replace(b'"dtype"', b'"dtype":"U8","dtype"'), b"x"),
    "field absent": build(WHOLE.replace(b'"dtype"', b'"type"'), b"x"),
    "further field": build({"a": entry(more={"x": [1.5, None, True, "y"]})}, b"x"),
    "further field twice": build(WHOLE.replace(b'"dtype"', b'"x":1,"x":2,"dtype"'), b"x"),
    "further field deep": build({"a": entry(more=json.loads("[" * 125 + "]" * 125))}, b"x"),
    "further field too deep": build({"a": entry(more=json.loads("[" * 126 + "]" * 126))}, b"x"),
    "further field large": build(WHOLE.replace(b'"dtype"', b'"x":1e999,"dtype"'), b"x"),
    "further field of 308 digits": build(WHOLE.replace(b'"dtype"', b'"x":' + b"9" * 308 + b',"dtype"'), b"x"),
    "further field of 309 digits": build(WHOLE.replace(b'"dtype"', b'"x":' + b"9" * 309 + b',"dtype"'), b"x"),
    "further field of 5000 digits": build(WHOLE.replace(b'"dtype"', b'"x":' + b"9" * 5000 + b',"dtype"'), b"x"),
    "further field surrogate": build(WHOLE.replace(b'"dtype"', b'"x":"\\ud800","dtype"'), b"x"),
    "entry as list": build({"a": ["U8", [1], [0, 1]]}, b"x"),
    "entry as long list": build({"a": ["U8", [1], [0, 1], 0]}, b"x"),
    "entry null": build({"a": None}),
    "dtype as object": build({"a": entry({"U8": None})}, b"x"),
    "dtype as other object": build({"a": entry({"U8": 1})}, b"x"),
    "dtype lower case": build({"a": entry("u8")}, b"x"),
    "dtype unknown": build({"a": entry("C128", [1], [0, 16])}, bytes(16)),
    "shape of floats": build({"a": entry(shape=[1.0])}, b"x"),
    "shape of bools": build({"a": entry(shape=[True])}, b"x"),
    "floats after integers": build({"a": entry(), "b": entry(shape=[1.0], offsets=[1, 2])}, b"xx"),
    "shape negative": build({"a": entry(shape=[-1])}, b"x"),
    "shape minus zero": build(b'{"a":{"dtype":"U8","shape":[-0],"data_offsets":[0,0]}}'),
    "name with minus zero": build(b'{"a-0":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'),
    "shape null": build({"a": entry(shape=None)}, b"x"),
    "shape overflows": build({"a": entry(shape=[2**63, 2, 0], offsets=[0, 0])}),
    "shape just fits": build({"a": entry(shape=[2**64 - 1, 0], offsets=[0, 0])}),
    "shape beyond 64 bits": build({"a": entry(shape=[0, 2**64], offsets=[0, 0])}),
    "bits overflow": build({"a": entry("F64", shape=[2**60], offsets=[0, 0])}),
    "zero first": build({"a": entry(shape=[0, 2**63, 2**62], offsets=[0, 0])}),
    "F4 odd": build({"a": entry("F4", [3], [0, 2])}, b"xx"),
    "F6 alone": build({"a": entry("F6_E2M3", [1], [0, 1])}, b"x"),
    "offsets backwards": build({"a": entry(offsets=[1, 0])}, b"x"),
    "three offsets": build({"a": entry(offsets=[0, 1, 2])}, b"x"),
    "wrong length": build({"a": entry(shape=[2])}, b"x"),
    "hole in front": build({"a": entry(offsets=[1, 2])}, b"xx"),
    "hole between": build({"a": entry(), "b": entry(offsets=[2, 3])}, b"xxx"),
    "same bytes": build({"a": entry(), "b": entry()}, b"x"),
    "overlap": build({"a": entry(shape=[2], offsets=[0, 2]), "b": entry(shape=[2], offsets=[1, 3])}, b"xxx"),
    "any order": build({"b": entry(offsets=[1, 2]), "a": entry()}, b"xx"),
    "nothing at the end": build({"a": entry(), "b": entry(shape=[0], offsets=[1, 1])}, b"x"),
    "nothing at the start": build({"a": entry(), "b": entry(shape=[0], offsets=[0, 0])}, b"x"),
    "nothing inside": build({"a": entry(shape=[4], offsets=[0, 4]), "b": entry(shape=[0], offsets=[2, 2])}, b"xxxx"),
    "nothing far off": build({"a": entry(shape=[0], offsets=[5, 5])}),
    "terabytes": build({"a": entry(shape=[2**50], offsets=[0, 2**50])}, b"x"),
    "shorter than a length": b"\x02\0\0",
}


@pytest.mark.parametrize("name", AGREED)
def test_agreement_with_the_library(name: str) -> None:
    file = read(AGREED[name])
    assert accepted(AGREED[name]) == (not file.defects), file.defects


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (build(WHOLE), ["is 61 bytes long", "describes 62", "1 byte missing", "1 of 1 tensor"]),
        (build(WHOLE, b"xxx"), ["is 64 bytes long", "describes 62", "2 bytes too many"]),
        (build({"a": entry()}, length=300), ["needs 308"]),
        (b"\x02\0\0", ["3 bytes"]),
    ],
)
def test_truncation_gives_the_numbers(data: bytes, words: list[str]) -> None:
    file = read(data)
    assert [defect.kind for defect in file.defects] == [DefectKind.SAFETENSORS_TRUNCATED]
    assert [word for word in words if word not in file.defects[0].message] == []


def test_a_cut_header_hides_tensors_and_a_cut_file_does_not() -> None:
    assert not read(AGREED["cut header"]).readable
    assert read(AGREED["one byte short"]).readable


def test_tensors_beyond_the_end_have_no_place() -> None:
    header = {"a": entry("F32", [2], [0, 8]), "b": entry("F32", [2], [8, 16])}
    file = read(build(header, bytes(15)))
    assert [info.byte_range is None for info in file.tensors] == [False, True]
    assert file.defects[0].tensors == ("b",)


def test_good_entries_are_listed_beside_bad_ones() -> None:
    header = {"good": entry(), "bad": entry("F99"), "worse": 7, "long": entry(shape=[5], offsets=[1, 2])}
    file = read(build(header, b"xx"))
    assert [info.name for info in file.tensors] == ["good"]
    assert [defect.kind for defect in file.defects] == [DefectKind.SAFETENSORS_HEADER]
    assert file.defects[0].tensors == ("bad", "worse", "long")
    for word in ("F99", "not a JSON object", "takes 5 bytes", "span 1"):
        assert word in file.defects[0].message


def test_a_name_that_stands_twice_is_refused_although_the_library_reads_it() -> None:
    data = build(WHOLE[:-1] + b"," + WHOLE[1:], b"x")
    assert accepted(data)
    file = read(data)
    assert [(defect.kind, defect.tensors) for defect in file.defects] == [(DefectKind.SAFETENSORS_HEADER, ("a",))]


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 100,
        b'{"a":' * 100,
        b'{"a":{"dtype":' + b'{"x":' * 100 + b"1" + b"}" * 100 + b',"shape":[1],"data_offsets":[0,1]}}',
        b'{"a":{"dtype":"U8","shape":' + b"[" * 100 + b"]" * 100 + b',"data_offsets":[0,1]}}',
        b'{"a":{"dtype":"U8","shape":[' + b"1," * 8 + b'1],"data_offsets":[0,1]}}',
        b'{"a":{"dtype":"U8","shape":[' + b"9223372036854775808," * 3 + b'1],"data_offsets":[0,0]}}',
        b'{"a":{"dtype":"' + b"x" * 1000 + b'","shape":[1],"data_offsets":[0,1]}}',
        b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[' + b"9" * 1000 + b",0]}}",
        b'{"' + b"a" * 1000 + b'":{"dtype":"U9","shape":[1],"data_offsets":[0,1]}}',
        b'{"' + b"a" * 1000 + b'":{},"' + b"a" * 1000 + b'":{}}',
        b'{"a":{"dtype":"U8","shape":[-1' + b",1" * 1000 + b'],"data_offsets":[0,1]}}',
    ],
    ids=[
        "lists",
        "objects",
        "deep dtype",
        "deep shape",
        "many dimensions",
        "large dimensions",
        "long dtype",
        "long offsets",
        "long name",
        "long name twice",
        "long shape",
    ],
)
def test_odd_headers_end_as_a_short_message(header: bytes) -> None:
    file = read(build(header, b"x"), Limits(rank=8))
    assert DefectKind.SAFETENSORS_HEADER in {defect.kind for defect in file.defects}
    assert all(len(defect.message) < 500 for defect in file.defects)


def test_a_header_beyond_the_limit_is_not_read() -> None:
    data = build(WHOLE, b"x")
    assert read(data, Limits(header=len(WHOLE))).defects == ()
    for file in (read(data, Limits(header=50)), recognise(BytesSource(data), "m", Limits(header=50))):
        assert (file.format, file.tensors) == ("safetensors", ())
        assert "allows 50" in file.defects[0].message
        assert file.defects[0].evidence == {"header_bytes": 53, "actual_bytes": 62}


def test_a_tensor_of_more_dimensions_than_the_limit_is_not_described() -> None:
    data = build({"a": entry(shape=[1] * 9)}, b"x")
    assert read(data, Limits(rank=9)).defects == ()
    assert "it has 9 dimensions" in read(data, Limits(rank=8)).defects[0].message


# Anything else

letters = "ab-é\n"  # an alphabet of its own: building all of Unicode takes seconds
values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10) | st.sampled_from([2**63, 2**64, 0.5, "U8", "F4", "BF16", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(letters, max_size=3), inner, max_size=3),
    max_leaves=4,
)
sizes = st.lists(st.integers(0, 3), max_size=3)
entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from([*BY_SAFETENSORS, "F99"]),
        "shape": sizes,
        "data_offsets": st.lists(st.integers(0, 12), min_size=2, max_size=2).map(sorted),
    }
)
headers = st.dictionaries(st.sampled_from(["a", "b", "c", "__metadata__"]), entries | values, max_size=3)


def fitting(names: list[tuple[str, str, list[int]]]) -> tuple[dict[str, object], int]:
    """A header whose tensors follow each other as they should, and the number of bytes they take."""
    header: dict[str, object] = {}
    end = 0
    for name, dtype, shape in names:
        count = 1
        for size in shape:
            count *= size
        start, end = end, end + BY_SAFETENSORS[dtype].nbytes(count)
        header[name] = entry(dtype, shape, [start, end])
    return header, end


def agrees(data: bytes) -> None:
    file = read(data)
    if accepted(data):
        assert all("repeated" in defect.evidence for defect in file.defects), file.defects
        assert file.readable or file.defects
    else:
        assert file.defects


@given(headers, st.binary(max_size=16))
def test_any_header_is_judged_as_the_library_judges_it(header: object, data: bytes) -> None:
    agrees(build(header, data))


@given(
    st.lists(
        st.tuples(st.text(letters, max_size=4), st.sampled_from(list(BY_SAFETENSORS)), sizes),
        max_size=4,
        unique_by=lambda t: t[0],
    ),
    st.integers(-1, 1),
)
def test_fitting_headers_are_judged_as_the_library_judges_them(
    names: list[tuple[str, str, list[int]]], off_by: int
) -> None:
    header, end = fitting(names)
    agrees(build(header, bytes(max(0, end + off_by))))


@given(st.data())
def test_a_mutated_file_is_judged_as_the_library_judges_it(data: st.DataObject) -> None:
    header, end = fitting([("one", "F32", [2]), ("two", "U8", [3]), ("three", "F4", [2, 3])])
    raw = bytearray(build({"__metadata__": {"format": "pt"}, **header}, bytes(end)))
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(raw) - 1))
        raw[position : position + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    agrees(bytes(raw))


@given(st.binary(max_size=200))
@example(b"")
def test_arbitrary_bytes_never_raise(data: bytes) -> None:
    agrees(data)
    agrees(build(data))
