"""Files that two readers take for different things, and the numbers that a file makes up to confuse one."""

from __future__ import annotations

import json
import struct
import tarfile
import time
import zipfile
from pathlib import Path

import pytest
from hostile import archive, call, legacy, legacy_saved, saved, text

from ckpt_doctor.checkpoint import DefectKind, WeightFile
from ckpt_doctor.formats import signatures
from ckpt_doctor.formats.recognise import recognise
from ckpt_doctor.formats.source import BytesSource, FileSource

SYSTEM = call("posix", "system", text("true"))


def read(data: bytes) -> WeightFile:
    return recognise(BytesSource(data), "x.bin")


def kinds(data: bytes) -> set[DefectKind]:
    return {defect.kind for defect in read(data).defects}


def with_record(data: bytes, member: bytes, at: int, value: bytes) -> bytes:
    """The archive with ``value`` at byte ``at`` of the central record of ``member``."""
    changed = bytearray(data)
    begin = data.index(member, data.index(b"PK\x01\x02")) - 46 + at
    changed[begin : begin + len(value)] = value
    return bytes(changed)


def test_zip64_locator_that_leads_nowhere_is_ambiguous() -> None:
    good = archive(saved(b"N"))
    end = good.rindex(b"PK\x05\x06")
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, good.index(b"archive/data/0"), 1)
    hidden = with_record(good, b"archive/version", 32, struct.pack("<H", len(locator)))
    size = int.from_bytes(good[end + 12 : end + 16], "little") + len(locator)
    hidden = hidden[:end] + locator + hidden[end : end + 12] + struct.pack("<I", size) + hidden[end + 16 :]
    assert kinds(good) == set()
    assert kinds(hidden) == {DefectKind.AMBIGUOUS_ARCHIVE}


@pytest.mark.parametrize(
    "form", [b"%06o\0 ", b"+%06o\0", b"0o%05o\0", b" %06o\0", b"%07o\0", b"0_%05o\0", b"", b"-%06o\0"]
)
def test_tar_checksums_are_read_as_tarfile_reads_them(form: bytes) -> None:
    block = bytearray(tarfile.TarInfo("storages").tobuf(tarfile.USTAR_FORMAT))
    total = sum(block[:148]) + sum(block[156:512]) + 256
    block[148:156] = form % total if form else b"\x80" + total.to_bytes(7, "big")
    try:
        tarfile.TarInfo.frombuf(bytes(block), "utf-8", "surrogateescape")
        accepted = True
    except tarfile.HeaderError:
        accepted = False
    assert accepted is (form[:1] != b"-")
    assert signatures.is_tar(bytes(block)) is accepted


def safetensors_and_pickle(evil: bytes) -> bytes:
    """Header length and header are strings of a pickle, which goes on in the weights."""
    length = 0x58 | 40 << 8  # BINUNICODE of 40 bytes, counted from byte 5
    tensor = len(evil) + 300
    tail = b'"},"w":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}' % (tensor, tensor)
    body = bytearray(b'{"__metadata__":{"n":"'.ljust(length - len(tail), b"a") + tail)
    at = 45 - 8
    while at < length:
        hop = 100 if at + 102 < length - len(tail) or at > length - 100 else length - len(tail) - 3 - at - 2
        hop = max(hop, 0x20)
        body[at : at + 2] = b"U" + bytes([hop])
        at += 2 + hop
    json.loads(body)
    return struct.pack("<Q", length) + body + (bytes(at - length) + evil).ljust(tensor, b"\0")


def test_safetensors_that_is_a_pickle_too_is_judged_as_both() -> None:
    file = read(safetensors_and_pickle(SYSTEM + b"."))
    assert file.format == "safetensors"
    assert {defect.kind for defect in file.defects} == {DefectKind.UNSAFE_GLOBAL}
    assert kinds(safetensors_and_pickle(b"N.")) == set()


@pytest.mark.parametrize("low", range(256))
def test_no_ordinary_safetensors_is_taken_for_a_pickle(low: int) -> None:
    header = json.dumps({"onfig\nposix": {"dtype": "U8", "shape": [600], "data_offsets": [0, 600]}}).encode()
    length = 0x200 + low
    data = struct.pack("<Q", length) + header.ljust(length) + b"weights\n" * 75
    assert kinds(data) == set()


@pytest.mark.parametrize("member", [b"archive/data/0", b"archive/data.pkl"])
def test_member_marked_as_a_folder_or_on_another_disk_is_ambiguous(member: bytes) -> None:
    good = archive(saved(b"N"))
    assert kinds(with_record(good, member, 38, b"\x10")) == {DefectKind.AMBIGUOUS_ARCHIVE}
    assert kinds(with_record(good, member, 34, b"\xff\xff")) == {DefectKind.AMBIGUOUS_ARCHIVE}


@pytest.mark.parametrize("count", [1, 3, -1, 1 << 61, (1 << 63) - 1])
def test_legacy_storage_of_another_length_is_missing(count: int) -> None:
    data = legacy(legacy_saved(b"N"))
    wrong = data[:-16] + struct.pack("<q", count) + bytes(12)
    assert DefectKind.STORAGE_MISSING in kinds(wrong)


@pytest.mark.parametrize("offset", [-1, 4, 1 << 63, 1 << 200])
def test_offsets_outside_a_source_give_no_bytes(offset: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"1234")
    assert BytesSource(b"1234").read_at(offset, 1 << 70) == b""
    with FileSource(path) as source:
        assert source.read_at(offset, 1 << 70) == b""
        assert source.read_at(1, 1 << 70) == b"234"


SIDE = {
    "behind a string of a megabyte": (text("a" * (1 << 20)) + b"0" + SYSTEM + b".", DefectKind.UNSAFE_GLOBAL),
    "behind many opcodes": (b"N0" * 700_000 + SYSTEM + b".", DefectKind.UNSAFE_GLOBAL),
    "in a pickle cut short": (SYSTEM, DefectKind.TORCH_TRUNCATED),
    "in a bomb": (SYSTEM + b"(" * 5000, DefectKind.RESOURCE_BOMB),
    "behind a string that is too long to be read": (text("a" * (17 << 20)) + b"0.", DefectKind.AMBIGUOUS_ARCHIVE),
}


@pytest.mark.parametrize("case", SIDE)
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_other_members_are_judged_to_their_end(case: str, compression: int) -> None:
    pickle, expected = SIDE[case]
    data = archive(saved(b"N"), {"archive/extra.pkl": b"\x80\x02" + pickle}, compression=compression)
    assert expected in kinds(data)


def test_other_members_share_one_budget() -> None:
    bomb = b"\x80\x02" + b"N0" * 200_000 + b"N."
    extra = {f"archive/x{index}": bomb for index in range(60)}
    begin = time.process_time()
    assert kinds(archive(saved(b"N"), extra, compression=zipfile.ZIP_DEFLATED)) == {DefectKind.RESOURCE_BOMB}
    assert time.process_time() - begin < 10


@pytest.mark.parametrize("note", [b"just a note\n" * 20_000, b"\x8e" + bytes(range(256)) * 4, bytes(100_000)])
def test_members_that_are_no_pickles_are_left_alone(note: bytes) -> None:
    assert kinds(archive(saved(b"N"), {"archive/notes": note})) == set()


@pytest.mark.parametrize(
    ("version", "accepted"),
    [(b"3\n", True), (b"10", True), (b" +2", True), (b"0\n", False), (b"11\n", False), (b"x", False), (b"", False)],
)
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_versions_that_torch_refuses_are_reported(version: bytes, accepted: bool, compression: int) -> None:
    data = archive(saved(b"N"), {"archive/version": version}, compression=compression)
    assert kinds(data) == (set() if accepted else {DefectKind.TORCH_TRUNCATED})


def test_archive_without_version_is_refused_by_torch() -> None:
    data = archive(saved(b"N")).replace(b"archive/version", b"archive/verzion")
    assert kinds(data) == {DefectKind.TORCH_TRUNCATED}


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_byte_order_is_read_from_compressed_members_too(compression: int) -> None:
    def ordered(order: bytes) -> WeightFile:
        return read(archive(saved(b"N"), {"archive/byteorder": order}, compression=compression))

    assert ordered(b"big").metadata == {"byteorder": "big"}
    assert ordered(b"little").defects == ()
    assert {defect.kind for defect in ordered(b"middle").defects} == {DefectKind.TORCH_TRUNCATED}
