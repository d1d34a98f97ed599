"""Which kind of content is told from which, whatever the file is called."""

from __future__ import annotations

import bz2
import gc
import gzip
import io
import lzma
import os
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ckpt_doctor.core.defects import DefectKind
from ckpt_doctor.core.weight_file import WeightFile
from ckpt_doctor.formats import read_weight_file
from ckpt_doctor.formats.limits import Limits
from ckpt_doctor.formats.recognise import recognise
from ckpt_doctor.sources.in_memory import BytesSource
from support.hostile import PACKAGE

NAME = f"c{PACKAGE}\nthing\n".encode()
SAFETENSORS = struct.pack("<Q", 2) + b"{}"


def read(data: bytes) -> WeightFile:
    return recognise(BytesSource(data), "m.bin")


def kinds(file: WeightFile) -> set[DefectKind]:
    return {defect.kind for defect in file.defects}


def zipped(name: str = "a/data.pkl") -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr(name, b"\x80\x02}.")
    return target.getvalue()


def tarred(*, format: int = tarfile.USTAR_FORMAT, name: str = "x") -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=format) as archive:
        archive.addfile(tarfile.TarInfo(name))
    return target.getvalue()


def old_tar() -> bytes:
    """Without the word ``ustar``, as before 1988."""
    block = bytearray(512)
    block[:1] = b"x"
    block[100:107] = b"0000644"
    block[124:135] = b"00000000000"
    block[148:156] = b" " * 8
    block[148:154] = b"%06o" % sum(block)
    block[154:156] = b"\0 "
    return bytes(block) + bytes(1024)


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (tarred(), "tar"),
        (tarred(format=tarfile.GNU_FORMAT), "tar"),
        (tarred(format=tarfile.PAX_FORMAT, name="\x80\x02é"), "tar"),
        (old_tar(), "tar"),
        (gzip.compress(b"weights", mtime=0), "gzip"),
        (bz2.compress(b"weights"), "bzip2"),
        (lzma.compress(b"weights"), "xz"),
        (lzma.compress(b"weights", format=lzma.FORMAT_ALONE), "lzma"),
        (b"7z\xbc\xaf\x27\x1c\0\4", "7z"),
        (b"Rar!\x1a\x07\x01\0", "rar"),
        (b"\x28\xb5\x2f\xfd\x24\0", "zstd"),
    ],
)
def test_containers_are_named_and_refused(data: bytes, word: str) -> None:
    file = read(data)
    assert file.format == "unknown"
    assert word in file.content
    assert kinds(file) == {DefectKind.EXECUTABLE_ARCHIVE}
    assert word in file.defects[0].message


@pytest.mark.parametrize(
    ("data", "content"),
    [
        (b"<!DOCTYPE html><html><title>404</title>", "HTML"),
        (b"\n  <HTML>", "HTML"),
        (b"<!-- cached --><html>", "HTML"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML"),
        (b'{"error": "Repository not found"}', "JSON"),
        (b"\xef\xbb\xbf{}", "JSON"),
        (b" [1, 2]", "JSON"),
        (b"Not Found\n", "text"),
        (b"Invalid username or password.", "text"),
        (b"channels:\n  - conda\n", "text"),
        (b"class Foo:\n    pass\n", "text"),
        (b"Loading...", "text"),
        (b"True\n", "text"),
        ("Größe".encode(), "text"),
        ("über alles".encode("utf-16"), "text"),
        ("ä".encode() * 4000, "text"),  # a character of two bytes is cut at an odd place
        (b"x" + "ä".encode() * 4000, "text"),
        (b"GGUF\x03\0\0\0\0\0\0\0", "a GGUF model"),
        (b"\x89HDF\r\n\x1a\n\0", "an HDF5 file (Keras?)"),
        (b"\x93NUMPY\x01\0", "a NumPy array (.npy)"),
        (b"\x7fELF\x02\x01", "an ELF program or library"),
        (b"MZ\x90\0\x03\0\0\0", "a Windows program or library"),
        (b"MZ is not always a program", "text"),
        (b"\x89PNG\r\n\x1a\n\0", "a PNG image"),
        (b"%PDF-1.7\n%\xff", "a PDF document"),
        (b"\x01\x02\x03\xff", "unknown"),
        (bytes(3000) + b"x" * 3000, "unknown"),
    ],
)
def test_impostors_are_named(data: bytes, content: str) -> None:
    file = read(data)
    assert (file.format, file.content, kinds(file)) == ("unknown", content, {DefectKind.IMPOSTOR})


def test_the_beginning_of_a_text_is_shown() -> None:
    assert "Repository not found" in read(b'{"error": "Repository not found"}').defects[0].message
    long = read(b"word " * 2000).defects[0].message
    assert "word word" in long
    assert len(long) < 150


def test_git_lfs_pointers() -> None:
    data = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 123456789\n"
    file = read(data)
    assert kinds(file) == {DefectKind.LFS_POINTER}
    assert "123,456,789 bytes" in file.defects[0].message
    assert dict(file.defects[0].evidence) == {"oid": "sha256:4d7a21", "size": "123456789"}
    assert kinds(read(data[:43])) == {DefectKind.LFS_POINTER}
    assert kinds(read(data.replace(b"123456789", b"\xff" * 9))) == {DefectKind.LFS_POINTER}


@pytest.mark.parametrize("size", [0, 1, 8, 9, 511, 5000, 3 << 20])
def test_nothing_but_zero_bytes(size: int) -> None:
    file = read(bytes(size))
    assert (file.format, kinds(file)) == ("unknown", {DefectKind.EMPTY})


def test_one_byte_that_is_not_zero() -> None:
    data = bytearray(3 << 20)
    data[2_500_000] = 1
    assert kinds(read(bytes(data))) == {DefectKind.IMPOSTOR}


def test_a_large_file_of_zeros_is_sampled(tmp_path: Path) -> None:
    path = tmp_path / "m.bin"
    path.write_bytes(bytes(3 << 20))
    limits = Limits(exact_zeros=2 << 20)
    found = read_weight_file(path, "m.bin", limits)
    assert kinds(found) == {DefectKind.EMPTY}
    assert "first and last" in found.defects[0].message
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"x")
    assert kinds(read_weight_file(path, "m.bin", limits)) == {DefectKind.IMPOSTOR}


@pytest.mark.parametrize("name", ["m.bin", "m.pt", "m.safetensors", "m.txt", "m"])
def test_the_name_plays_no_part(tmp_path: Path, name: str) -> None:
    torch = pytest.importorskip("torch")
    (tmp_path / name).write_bytes(SAFETENSORS)
    assert read_weight_file(tmp_path / name, name).format == "safetensors"
    torch.save({"a": torch.ones(2)}, tmp_path / name)
    found = read_weight_file(tmp_path / name, name)
    assert (found.format, found.defects) == ("torch-zip", ())
    torch.save({"a": torch.ones(2)}, tmp_path / name, _use_new_zipfile_serialization=False)
    found = read_weight_file(tmp_path / name, name)
    assert (found.format, found.defects) == ("torch-legacy", ())


def test_header_lengths_that_look_like_a_pickle() -> None:
    """128 is 0x80, with which pickles begin, too."""
    header = b'{"__metadata__":{"a":"' + b"x" * 103 + b'"}}'
    assert len(header) == 128
    file = read(struct.pack("<Q", 128) + header)
    assert (file.format, file.defects) == ("safetensors", ())


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 8 + b'{"a":',
        struct.pack("<Q", 200_000_000) + b"{}",
        struct.pack("<Q", 511) + b'{"a":{"dty',
        struct.pack("<Q", 16),
        struct.pack("<Q", 4) + b"  {}",
        SAFETENSORS + b"surplus",
    ],
)
def test_what_was_meant_to_be_safetensors(data: bytes) -> None:
    assert read(data).format == "safetensors"


@pytest.mark.parametrize(
    "data",
    [
        NAME + b"(S'x'\ntR.",
        b"N0" + NAME + b"(S'x'\ntR.",
        b"(lp0\n" + NAME,
        b"GGUF\x03\0\0\0\0" + NAME + b"(S'x'\ntR.",
        b"\x80\x02" + NAME.replace(b"thing", b"thi{ng") + b".",
        b"\x80\x04\x8c\x1b" + PACKAGE.encode() + b"\x8c\x05thing\x93.",
    ],
)
def test_pickles_of_every_protocol_are_found(data: bytes) -> None:
    assert DefectKind.UNSAFE_GLOBAL in kinds(read(data))


def test_an_archive_behind_something_else() -> None:
    both = read(SAFETENSORS + zipped())
    assert both.format == "safetensors"
    assert DefectKind.AMBIGUOUS_ARCHIVE in kinds(both)
    assert DefectKind.AMBIGUOUS_ARCHIVE in kinds(read(b"<html></html>" + zipped()))
    assert DefectKind.AMBIGUOUS_ARCHIVE in kinds(read(b"\x80\x02}." + zipped()))


def test_an_archive_inside_of_tensor_bytes() -> None:
    """The trailing zip is all that the header describes: to safetensors, the file is perfect."""
    archive = zipped()
    header = b'{"a":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}' % (len(archive), len(archive))
    file = read(struct.pack("<Q", len(header)) + header + archive)
    assert kinds(file) == {DefectKind.AMBIGUOUS_ARCHIVE}


def test_an_archive_with_a_long_directory_behind_something_else() -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for number in range(2000):
            archive.writestr(f"a/data/{number}", b"")
    assert DefectKind.AMBIGUOUS_ARCHIVE in kinds(read(SAFETENSORS + target.getvalue()))


def test_the_letters_of_a_zip_in_weights_are_no_archive() -> None:
    data = b"PK\x05\x06" * 300
    header = b'{"a":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}' % (len(data), len(data))
    assert read(struct.pack("<Q", len(header)) + header + data).defects == ()


def test_a_safetensors_file_that_is_a_tar_archive_too() -> None:
    head = bytearray(struct.pack("<Q", 504) + b'{"__metadata__":{"' + b" " * 486)
    head[100:156] = b"0000644\x20" * 3 + b"00000000000\x20" + b"00000000000\x20" + b" " * 8
    head[156:157] = b"0"
    head[157:180] = b'":""}}'.ljust(23)
    head[148:156] = b"%06o  " % sum(head)
    file = read(bytes(head))
    assert DefectKind.AMBIGUOUS_ARCHIVE in kinds(file), file


@pytest.mark.parametrize("kind", ["directory", "fifo", "dangling", "loop", "absent", "zero byte", "long", "surrogate"])
def test_what_cannot_be_opened_is_a_defect(tmp_path: Path, kind: str) -> None:
    path = tmp_path / {"zero byte": "a\0b", "long": "x" * 400, "surrogate": "a\udcff"}.get(kind, "m.bin")
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "dangling":
        path.symlink_to("nowhere")
    elif kind == "loop":
        path.symlink_to(path.name)
    file = read_weight_file(path, "m.bin")
    assert (file.format, kinds(file)) == ("unknown", {DefectKind.UNREADABLE})
    assert str(tmp_path) not in file.defects[0].message
    assert gc.isenabled()


def test_a_file_that_must_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.bin").write_bytes(SAFETENSORS)

    def refuse(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.pread", refuse)
    file = read_weight_file(tmp_path / "m.bin", "m.bin")
    assert kinds(file) == {DefectKind.UNREADABLE}
    assert "Input/output error" in file.defects[0].message


HEADS = [
    b"",
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"\x80\x02",
    b"(",
    b"}",
    b"c",
    b"\x02" + bytes(7) + b"{",
    bytes(8),
    b"<",
    b"{",
]


@given(st.sampled_from(HEADS), st.binary(max_size=300), st.sampled_from([b"", zipped(), b"."]))
@example(b"", b"", b"")
def test_anything_is_recognised_without_raising(head: bytes, data: bytes, tail: bytes) -> None:
    file = read(head + data + tail)
    assert file.nbytes == len(head + data + tail)
    assert file.format in ("safetensors", "torch-zip", "torch-legacy", "unknown")
    assert file.defects or file.format != "unknown"


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("sklearn.no_such_module NoSuchClass", True),
        ("sklearn.no_such_module no_such_function", False),
        ("pandas.no_such_module no_such_function", False),
        ("numpy.ma.no_such_module no_such_function", True),
        ("no_such_package_ckpt_doctor Thing", False),
    ],
)
def test_a_pickle_of_another_program_holds_nothing_but_its_data(name: str, plain: bool, tmp_path: Path) -> None:
    path = tmp_path / "estimator.pkl"
    module, _, qualified = name.partition(" ")
    path.write_bytes(b"\x80\x02c" + f"{module}\n{qualified}\n".encode() + b")R.")
    file = read_weight_file(path, path.name)
    assert file.has_defect(DefectKind.UNSAFE_GLOBAL) != plain
