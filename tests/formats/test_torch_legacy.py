"""Torch's format before 1.6, and pickles that torch did not write."""

from __future__ import annotations

import io
import pickle
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_torch_zip import CLASSIC, assert_same, kinds, tensors

from ckpt_doctor.core.defects import DefectKind
from ckpt_doctor.core.weight_file import WeightFile
from ckpt_doctor.formats import torch_legacy
from ckpt_doctor.sources.in_memory import BytesSource
from support.hostile import MAGIC, PROTOCOL, SYSTEM, legacy, legacy_saved, text


def read(data: bytes) -> WeightFile:
    return torch_legacy.read(BytesSource(data), "x.bin")


def torch_bytes(value: Any, **options: Any) -> bytes:
    torch = pytest.importorskip("torch")
    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=False, **options)
    return stream.getvalue()


@settings(deadline=None, max_examples=60)
@given(made=st.lists(tensors(CLASSIC), max_size=4), again=st.booleans())
def test_tensors_are_those_that_torch_loads(made: list[Any], again: bool) -> None:
    # Of the newer dtypes torch itself cannot read what it writes in this format.
    torch = pytest.importorskip("torch")
    state = {f"layer{index}.weight": value for index, value in enumerate(made)}
    if made and again:
        state["again"] = made[0]
    data = torch_bytes(state)
    file = read(data)
    loaded = torch.load(io.BytesIO(data), weights_only=True)
    assert (file.format, file.defects) == ("torch-legacy", ())
    assert [info.name for info in file.tensors] == list(loaded)
    for info, real in zip(file.tensors, loaded.values(), strict=True):
        assert_same(info, real, data)


def test_storages_that_no_tensor_uses_do_not_disturb() -> None:
    torch = pytest.importorskip("torch")
    state = {
        "storage": torch.arange(5.0).untyped_storage(),
        "sparse": torch.eye(2).to_sparse(),
        "weight": torch.arange(3.0),
    }
    data = torch_bytes(state)
    file = read(data)
    assert file.defects == ()
    begin, end = file.by_name["weight"].byte_range or (0, 0)
    assert data[begin:end] == struct.pack("<3f", 0, 1, 2)


def test_many_tensors_in_a_pickle_larger_than_the_first_read(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    data = torch_bytes({f"layer.{index}": torch.ones(1) for index in range(300)})
    expected = read(data)
    monkeypatch.setattr(torch_legacy, "_FIRST_READ", 100)
    monkeypatch.setattr(torch_legacy, "_SECOND_READ", 1000)
    assert read(data) == expected
    assert len(expected.tensors) == 300


def test_a_file_cut_short_names_the_tensors_that_are_lost() -> None:
    torch = pytest.importorskip("torch")
    data = torch_bytes({name: torch.ones(50) for name in "abc"})
    for size in range(len(MAGIC), len(data), 41):
        file = read(data[:size])
        assert kinds(file) in ({DefectKind.TORCH_TRUNCATED}, {DefectKind.STORAGE_MISSING})
    lost = read(data[:-1])
    assert kinds(lost) == {DefectKind.STORAGE_MISSING}
    assert len(lost.defects[0].tensors) == 1
    assert "199 of 200 bytes" in lost.defects[0].message


def test_views_of_storages_are_found() -> None:
    # Torch 0.x wrote views: key of the root, and (key, offset, length) of the view, in elements.
    view = b"(" + text("9") + b"K\x01K\x01t"
    pickled = legacy_saved(b"N").replace(b"K\x02NtQK\x00K\x02\x85", b"K\x02" + view + b"tQK\x00K\x01\x85")
    data = legacy(pickled)
    file = read(data)
    assert file.defects == ()
    assert file.tensors[0].storage.key == "9"
    assert file.tensors[0].byte_range == (len(data) - 4, len(data))
    outside = read(legacy(pickled.replace(view, b"(" + text("9") + b"K\x01K\x02t")))
    assert kinds(outside) == {DefectKind.STORAGE_MISSING}


def test_storages_of_another_length_are_found() -> None:
    short = legacy(legacy_saved(b"N")).replace(struct.pack("<q", 2) + bytes(8), struct.pack("<q", 1) + bytes(4))
    assert kinds(read(short)) == {DefectKind.STORAGE_MISSING}
    negative = legacy(legacy_saved(b"N")).replace(struct.pack("<q", 2), struct.pack("<q", -2))
    assert DefectKind.TORCH_TRUNCATED in kinds(read(negative))


def test_what_torch_always_writes_must_be_there() -> None:
    whole = legacy(legacy_saved(b"N"))
    assert read(whole).defects == ()
    assert DefectKind.TORCH_TRUNCATED in kinds(read(whole.replace(b"M\xe9\x03.", b"M\xe8\x03.")))
    big = read(whole.replace(SYSTEM, SYSTEM.replace(b"\x88s.", b"\x89s.")))
    assert (big.metadata, big.defects) == ({"byteorder": "big"}, ())
    assert kinds(read(MAGIC + PROTOCOL)) == {DefectKind.TORCH_TRUNCATED}


def test_a_plain_pickle_is_no_weight_file() -> None:
    file = read(pickle.dumps({"lr": 0.1}))
    assert kinds(file) == {DefectKind.IMPOSTOR}
    assert file.values == {"lr": 0.1}
    assert file.format == "unknown"


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_changed_files_are_read_without_an_exception(data: st.DataObject) -> None:
    original = bytearray(legacy(legacy_saved(text("value"))))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(original) - 1))
        original[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    file = read(bytes(original))
    assert file.nbytes == len(original)
    for info in file.tensors:
        assert info.byte_range is None or info.byte_range[1] <= len(original) or file.defects
