"""Torch archives: what torch itself reads from them, what is missing from damaged ones, and whatever else they hold."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckpt_doctor.core.defects import DefectKind
from ckpt_doctor.core.dtypes import BY_NAME
from ckpt_doctor.core.weight_file import TensorInfo, WeightFile
from ckpt_doctor.formats import read_weight_file, torch_zip
from ckpt_doctor.sources.in_memory import BytesSource
from support.hostile import archive, saved, tensor, text

FIXTURES = Path(__file__).parents[2] / "fixtures"
REAL = sorted(path for pattern in ("*.bin", "*.pt") for path in FIXTURES.rglob(pattern))


def read(data: bytes) -> WeightFile:
    return torch_zip.read(BytesSource(data), "x.bin")


def kinds(file: WeightFile) -> set[DefectKind]:
    return {defect.kind for defect in file.defects}


def torch_bytes(value: Any, **options: Any) -> bytes:
    torch = pytest.importorskip("torch")
    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


def assert_same(info: TensorInfo, real: Any, data: bytes) -> None:
    """The description agrees with torch's tensor, and its byte range holds the tensor's bytes."""
    assert str(real.dtype) == f"torch.{info.dtype.name}"
    assert (info.shape, info.stride) == (tuple(real.shape), tuple(real.stride()))
    assert (info.storage_offset, info.requires_grad) == (real.storage_offset(), real.requires_grad)
    assert (info.storage.nbytes, info.storage.device) == (real.untyped_storage().nbytes(), str(real.device))
    assert info.byte_range is not None
    begin, end = info.byte_range
    start, stop = info.extent
    assert data[begin:end] == bytes(real.detach().untyped_storage().tolist())[start:stop]


CLASSIC = (
    *("float64", "float32", "float16", "bfloat16", "complex64", "complex128"),
    *("int64", "int32", "int16", "int8", "uint8", "bool"),
)
DTYPES = (*CLASSIC, "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu", "uint16", "uint32", "uint64")


@st.composite
def tensors(draw: st.DrawFn, dtypes: Sequence[str] = DTYPES) -> Any:
    """A tensor of any dtype that is a view of a larger one in some way."""
    torch = pytest.importorskip("torch")
    dtype = getattr(torch, draw(st.sampled_from(dtypes)))
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    raw = torch.arange(7, 7 + (torch.Size(shape).numel() + 3) * dtype.itemsize, dtype=torch.int64) % 2
    flat = raw.to(torch.uint8).view(dtype)
    offset = draw(st.integers(0, 3))
    made = flat[offset : offset + torch.Size(shape).numel()].view(shape)
    if draw(st.booleans()):
        made = made.movedim(0, -1) if shape else made
    if shape and draw(st.booleans()):
        made = made[::2]
    if dtype.is_floating_point and dtype.itemsize > 1 and draw(st.booleans()):
        made = torch.nn.Parameter(made, requires_grad=draw(st.booleans()))
    return made


@settings(deadline=None, max_examples=60)
@given(made=st.lists(tensors(), max_size=4), nested=st.booleans(), again=st.booleans())
def test_tensors_are_those_that_torch_loads(made: list[Any], nested: bool, again: bool) -> None:
    torch = pytest.importorskip("torch")
    state: dict[str, Any] = {f"layer{index}.weight": value for index, value in enumerate(made)}
    if made and again:
        state["again"] = made[0]
    data = torch_bytes({"model": state, "step": 3} if nested else state)
    file = read(data)
    loaded = torch.load(io.BytesIO(data), weights_only=True)
    loaded = loaded["model"] if nested else loaded
    assert file.defects == ()
    assert [info.name for info in file.tensors] == [f"model.{name}" if nested else name for name in loaded]
    for info, real in zip(file.tensors, loaded.values(), strict=True):
        assert_same(info, real, data)
    assert file.values == ({"step": 3} if nested else {})
    assert len({info.storage.key for info in file.tensors}) == len(
        {r.untyped_storage()._cdata for r in loaded.values()}
    )


def test_every_kind_of_tensor_is_listed() -> None:
    torch = pytest.importorskip("torch")
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.scale = torch.ones(3)
    state = {
        "sparse": torch.eye(3).to_sparse(),
        "meta": torch.empty(3, 4, device="meta"),
        "conj": torch.ones(2, dtype=torch.complex64).conj(),
        "parameter": parameter,
        "module": torch.nn.Linear(2, 2).state_dict(),
        "list": [torch.ones(1), (torch.ones(1),)],
        "empty": torch.empty(0),
        "expanded": torch.ones(1).expand(5),
        "dtype": torch.float16,
        "version": torch.__version__,
        "storage": torch.ones(2).untyped_storage(),
    }
    file = read(torch_bytes(state))
    assert file.defects == ()
    names = (
        "sparse.indices sparse.values meta conj parameter parameter.scale module.weight module.bias list.0 list.1.0 "
        "empty expanded"
    )
    assert [info.name for info in file.tensors] == names.split()
    assert file.by_name["meta"].storage.device == "meta"
    assert file.by_name["meta"].byte_range is None
    assert file.by_name["list.1.0"].path == ("list", "1", "0")
    assert {"dtype", "version", "storage"} <= file.values.keys()
    root = read(torch_bytes(torch.ones(2)))
    assert [info.name for info in root.tensors] == ["tensor"]


@pytest.mark.parametrize("path", REAL, ids=lambda path: str(path.relative_to(FIXTURES)))
def test_real_files_have_no_defects_and_good_checksums(path: Path) -> None:
    import zlib

    file = read_weight_file(path, path.name)
    assert file.defects == ()
    assert file.tensors or file.values or "empty" in str(path)
    data = path.read_bytes()
    for record in file.records:
        assert record.crc32 == zlib.crc32(data[record.offset : record.offset + record.nbytes])


def test_training_state_of_real_libraries_is_inert(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    numpy = pytest.importorskip("numpy")
    import random

    arguments = transformers.TrainingArguments(str(tmp_path), use_cpu=True, report_to=[], lr_scheduler_type="cosine")
    rng = {"python": random.getstate(), "numpy": numpy.random.get_state(), "cpu": torch.random.get_rng_state()}
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([weight])
    weight.sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    for value in (arguments, rng, optimizer.state_dict(), scheduler.state_dict()):
        assert read(torch_bytes(value)).defects == ()
    assert read(torch_bytes(arguments)).values["learning_rate"] == 5e-05
    state = read(torch_bytes(optimizer.state_dict()))
    assert [info.name for info in state.tensors] == ["state.0.step", "state.0.exp_avg", "state.0.exp_avg_sq"]
    assert state.values["param_groups.0.betas.1"] == 0.999
    assert [info.name for info in read(torch_bytes(rng)).tensors] == ["cpu"]


def test_a_whole_pickled_model_is_refused_and_listed() -> None:
    torch = pytest.importorskip("torch")
    file = read(torch_bytes(torch.nn.Linear(2, 2)))
    assert kinds(file) == {DefectKind.UNSAFE_GLOBAL}
    assert [entry["name"] for entry in file.defects[0].evidence["globals"]] == ["torch.nn.modules.linear Linear"]
    assert len(file.tensors) == 2


def test_checksums_that_were_not_computed_are_none() -> None:
    torch = pytest.importorskip("torch")
    torch.serialization.set_crc32_options(False)
    try:
        data = torch_bytes({"a": torch.ones(2)})
    finally:
        torch.serialization.set_crc32_options(True)
    file = read(data)
    assert file.defects == ()
    assert file.tensors[0].storage.crc32 is None


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_archives_that_were_packed_again_are_read(compression: int) -> None:
    torch = pytest.importorskip("torch")
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(torch_bytes({"a": torch.ones(2)}))) as old,
        zipfile.ZipFile(stream, "w", compression) as new,
    ):
        new.writestr("archive/", b"")
        for info in old.infolist():
            new.writestr(info.filename, old.read(info))
    file = read(stream.getvalue())
    assert file.defects == ()
    assert (file.tensors[0].byte_range is None) == (compression == zipfile.ZIP_DEFLATED)
    assert len(file.records) == (0 if compression == zipfile.ZIP_DEFLATED else 8)


@pytest.mark.parametrize("folder", ["code", "adapter model", "données", "data", "a.b"])
def test_the_folder_may_be_called_anything(folder: str) -> None:
    file = read(archive(saved(b"N"), folder=folder))
    assert file.defects == ()
    assert len(file.tensors) == 1


def test_big_endian_files_say_so() -> None:
    file = read(archive(saved(b"N"), {"archive/byteorder": b"big"}))
    assert (file.metadata, file.defects) == ({"byteorder": "big"}, ())


# Damage


def test_a_file_cut_short_tells_what_is_there() -> None:
    torch = pytest.importorskip("torch")
    data = torch_bytes({name: torch.ones(200) for name in "abc"})
    whole = read(data)
    for size in range(4, len(data), 97):
        file = read(data[:size])
        assert DefectKind.TORCH_TRUNCATED in kinds(file)
        assert kinds(file) <= {DefectKind.TORCH_TRUNCATED}
        assert "failed finding central directory" in file.defects[0].message
        assert not file.readable
        for info in file.tensors:
            if info.byte_range is not None:
                assert info.byte_range == whole.by_name[info.name].byte_range
                assert info.byte_range[1] <= size
    assert len(read(data[: whole.by_name["b"].byte_range[1]]).tensors) == 3  # type: ignore[index]
    cut = read(data[: whole.by_name["b"].byte_range[1] + 10])  # type: ignore[index]
    assert [info.name for info in cut.tensors if info.byte_range] == ["a", "b"]
    assert cut.defects[0].evidence == {"tensors": 3, "whole": 2}


def descriptions() -> dict[str, bytes]:
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"%sQ"
    head = b"ctorch._utils\n_rebuild_tensor_v2\n("
    tail = b"\x89ccollections\nOrderedDict\n)RtR"
    plain = head + storage % b"K\x02t"
    return {
        "reaches": plain + b"K\x01K\x02\x85K\x01\x85" + tail,
        "[-2]": plain + b"K\x00J\xfe\xff\xff\xff\x85K\x01\x85" + tail,
        "offset": plain + b"J\xff\xff\xff\xffK\x02\x85K\x01\x85" + tail,
        "2**": plain + b"K\x00\x8a\x0a" + b"\xff" * 9 + b"\x00\x85K\x01\x85" + tail,
        "1 dimensions and 2 strides": plain + b"K\x00K\x02\x85K\x01K\x01\x86" + tail,
        "not whole": plain + b"K\x00N\x85K\x01\x85" + tail,
        "do not describe a tensor": plain + b"tR",
        "both 8 and 40": head + storage % b"K\x0at" + b"K\x00K\x0a\x85K\x01\x85" + tail,
        "storage of [-": head + storage % b"J\xff\xff\xff\xfft" + b"K\x00K\x00\x85K\x01\x85" + tail,
        "is not in the archive": tensor("7"),
    }


@pytest.mark.parametrize("words", descriptions())
def test_tensors_without_their_bytes_are_named(words: str) -> None:
    file = read(archive(saved(descriptions()[words])))
    assert kinds(file) == {DefectKind.STORAGE_MISSING}
    assert {defect.tensors for defect in file.defects} == {("extra",)}
    assert words in file.defects[0].message
    assert all(info.byte_range is None for info in file.tensors if info.name == "extra" and info.extent[1] > 8)
    assert file.by_name["weight"].byte_range is not None


def test_a_record_that_is_too_short_is_found() -> None:
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(archive(saved(b"N")))) as old,
        zipfile.ZipFile(stream, "w") as new,
    ):
        for info in old.infolist():
            new.writestr(info.filename, old.read(info)[: 5 if info.filename.endswith("/0") else None])
    file = read(stream.getvalue())
    assert kinds(file) == {DefectKind.STORAGE_MISSING}
    assert "5 of 8 bytes" in file.defects[0].message
    assert file.by_name["weight"].byte_range is None


def test_a_flipped_bit_in_the_pickle_is_found() -> None:
    data = archive(saved(text("value")))
    file = read(data.replace(b"value", b"valuf"))
    assert kinds(file) == {DefectKind.CHECKSUM}
    assert len(file.tensors) == 1


def test_other_archives_are_impostors() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("word/document.xml", b"<x/>")
    assert kinds(read(stream.getvalue())) == {DefectKind.IMPOSTOR}
    assert kinds(read(b"PK\x05\x06" + bytes(18))) == {DefectKind.IMPOSTOR}


def test_a_zip64_archive_is_read_with_its_own_numbers() -> None:
    torch = pytest.importorskip("torch")
    data = torch_bytes({"a": torch.ones(2)})
    end = data.rindex(b"PK\x05\x06")
    assert data[end - 20 : end - 16] == b"PK\x06\x07"  # torch writes it always
    full = data[: end + 8] + b"\xff" * 12 + data[end + 20 :]
    assert read(full) == read(data)
    wrong = data[: end + 16] + struct.pack("<I", 5) + data[end + 20 :]
    assert kinds(read(wrong)) == {DefectKind.AMBIGUOUS_ARCHIVE}


# Any bytes


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_changed_files_are_read_without_an_exception(data: st.DataObject) -> None:
    original = bytearray(archive(saved(text("value"))))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(original) - 1))
        original[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    file = read(bytes(original))
    assert file.nbytes == len(original)
    for info in file.tensors:
        assert info.byte_range is None or info.byte_range[1] <= len(original) or file.defects


@given(middle=st.binary(max_size=200))
def test_any_bytes_in_the_clothes_of_an_archive(middle: bytes) -> None:
    file = read(b"PK\x03\x04" + middle + b"PK\x01\x02" + middle + b"PK\x05\x06" + bytes(18))
    assert file.defects


def test_every_name_of_a_dtype_is_known() -> None:
    from ckpt_doctor.knowledge.pickle_globals import TORCH_ALLOWED

    torch = pytest.importorskip("torch")
    names = {name[6:] for name in TORCH_ALLOWED if isinstance(getattr(torch, name[6:], None), torch.dtype)}
    assert names <= set(BY_NAME)
    assert all(BY_NAME[name].bits == getattr(torch, name).itemsize * 8 for name in names)
