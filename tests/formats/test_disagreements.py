"""Files that say two things at once, and numbers that nobody can mean."""

from __future__ import annotations

import json
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest

from ckpt_doctor.core.defects import DefectKind
from ckpt_doctor.core.weight_file import WeightFile
from ckpt_doctor.formats import signatures
from ckpt_doctor.formats.limits import LIMITS, Limits
from ckpt_doctor.formats.recognise import recognise
from ckpt_doctor.sources.in_memory import BytesSource
from ckpt_doctor.sources.local_file import FileSource
from support.hostile import archive, call, foreign, legacy, legacy_saved, saved, tensor, text


def read(data: bytes, limits: Limits = LIMITS) -> WeightFile:
    return recognise(BytesSource(data), "x.bin", limits)


def kinds(data: bytes, limits: Limits = LIMITS) -> set[DefectKind]:
    return {defect.kind for defect in read(data, limits).defects}


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
    added = with_record(good, b"archive/version", 32, struct.pack("<H", len(locator)))
    size = int.from_bytes(good[end + 12 : end + 16], "little") + len(locator)
    added = added[:end] + locator + added[end : end + 12] + struct.pack("<I", size) + added[end + 16 :]
    assert kinds(good) == set()
    assert kinds(added) == {DefectKind.AMBIGUOUS_ARCHIVE}


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


def safetensors_and_pickle(opcodes: bytes) -> bytes:
    """Header length and header are strings of a pickle, which goes on in the weights."""
    length = 0x58 | 40 << 8  # BINUNICODE of 40 bytes, counted from byte 5
    nbytes = len(opcodes) + 300
    tail = b'"},"w":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}' % (nbytes, nbytes)
    body = bytearray(b'{"__metadata__":{"n":"'.ljust(length - len(tail), b"a") + tail)
    at = 45 - 8
    while at < length:
        hop = 100 if at + 102 < length - len(tail) or at > length - 100 else length - len(tail) - 3 - at - 2
        hop = max(hop, 0x20)
        body[at : at + 2] = b"U" + bytes([hop])
        at += 2 + hop
    json.loads(body)
    return struct.pack("<Q", length) + body + (bytes(at - length) + opcodes).ljust(nbytes, b"\0")


def test_safetensors_that_is_a_pickle_too_is_judged_as_both() -> None:
    file = read(safetensors_and_pickle(foreign() + b"."))
    assert file.format == "safetensors"
    assert {defect.kind for defect in file.defects} == {DefectKind.UNSAFE_GLOBAL}
    assert kinds(safetensors_and_pickle(b"N.")) == set()
    # It goes on behind the first 4,096 bytes, and is read no further than the limit.
    behind = safetensors_and_pickle(b"N0" * 3000 + foreign() + b".")
    assert kinds(behind) == {DefectKind.UNSAFE_GLOBAL}
    assert kinds(behind, Limits(second_format=5000)) == set()


@pytest.mark.parametrize("low", range(256))
def test_no_ordinary_safetensors_is_taken_for_a_pickle(low: int) -> None:
    header = json.dumps({"onfig\nno_such_package": {"dtype": "U8", "shape": [600], "data_offsets": [0, 600]}}).encode()
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
    "behind a long string": (text("a" * 1000) + b"0" + foreign() + b".", DefectKind.UNSAFE_GLOBAL),
    "behind many opcodes": (b"N0" * 500 + foreign() + b".", DefectKind.UNSAFE_GLOBAL),
    "in a pickle cut short": (foreign(), DefectKind.TORCH_TRUNCATED),
    "in marks": (foreign() + b"(" * 20, DefectKind.RESOURCE_BOMB),
    "behind a string that is too long to be read": (text("a" * 3000) + b"0.", DefectKind.AMBIGUOUS_ARCHIVE),
}
SIDE_LIMITS = Limits(depth=10, side_piece=64, side_total=2000, side_opcodes=4000)


@pytest.mark.parametrize("case", SIDE)
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_other_members_are_judged_to_their_end(case: str, compression: int) -> None:
    pickle, expected = SIDE[case]
    data = archive(saved(b"N"), {"archive/extra.pkl": b"\x80\x02" + pickle}, compression=compression)
    assert expected in kinds(data, SIDE_LIMITS)


def test_other_members_share_one_budget() -> None:
    extra = {f"archive/x{index}": b"\x80\x02" + b"N0" * 100 + b"N." for index in range(20)}
    data = archive(saved(b"N"), extra, compression=zipfile.ZIP_DEFLATED)
    assert kinds(data) == set()
    defects = read(data, Limits(side_opcodes=2000)).defects
    assert {defect.kind for defect in defects} == {DefectKind.RESOURCE_BOMB}
    assert defects[-1].message.startswith("Members from archive/x7 on were not looked at")


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


MANY = b"M\x50\xc3"  # 50,000
RANGE = b"cbuiltins\nrange\nK\x03\x85R"
COSTLY = {
    "zero bytes": call("builtins", "bytes", MANY),
    "a bytearray": call("builtins", "bytearray", MANY),
    "zero bytes without a constructor": b"cbuiltins\nbytes\n" + MANY + b"\x85\x81",
    "zero bytes by keyword": b"cbuiltins\nbytes\n)}" + text("source") + MANY + b"s\x92",
    "many small zero bytes": b"cbuiltins\nbytes\nq\x00M\x00\x04\x85q\x010" + b"h\x00h\x01R0" * 50 + b"N",
    "a tuple of a range": call("builtins", "tuple", RANGE),
    "a set of a range": call("builtins", "set", RANGE),
    "a fraction": call("fractions", "Fraction", text("1e10000")),
    "a decimal": call("decimal", "Decimal", text("-1E+0010000")),
}


@pytest.mark.parametrize("name", COSTLY)
def test_calls_that_make_more_than_they_hold_are_refused(name: str) -> None:
    assert DefectKind.RESOURCE_BOMB in kinds(archive(saved(COSTLY[name])), Limits(characters=1000))


def test_ordinary_numbers_and_bytes_are_read() -> None:
    values = (
        call("decimal", "Decimal", text("1.5E-30")),
        call("decimal", "Decimal", text("1e9999")),
        call("fractions", "Fraction", text("1/3")),
        call("fractions", "Fraction", b"K\x01", b"K\x03"),
        call("builtins", "range", b"K\x03"),
        call("builtins", "bytes"),
    )
    assert kinds(archive(saved(b"(" + b"".join(values) + b"t"))) == set()


@pytest.mark.parametrize(
    "string",
    [
        text("a" * 3000 + "\U0001f600"),
        b"V" + b"a" * 3000 + b"\\U0001f600\n",
        text("a" * 300 + "é") * 20,
    ],
)
def test_wide_strings_are_counted_before_they_are_decoded(string: bytes) -> None:
    data = archive(saved(b"(" + string + b"t"), compression=zipfile.ZIP_DEFLATED)
    limits = Limits(characters=5000)
    assert kinds(data, limits) == {DefectKind.RESOURCE_BOMB}
    assert kinds(archive(saved(b"(" + string + b"t")), limits) == set()


def test_storage_with_two_element_types_is_ambiguous() -> None:
    other = tensor().replace(b"FloatStorage", b"IntStorage")
    assert kinds(archive(saved(other))) == {DefectKind.AMBIGUOUS_ARCHIVE}
    assert kinds(archive(saved(other + b"0N"))) == {DefectKind.AMBIGUOUS_ARCHIVE}
    assert kinds(archive(saved(tensor()))) == set()


OTHER = tensor()
PARAMETER = b"ctorch._utils\n_rebuild_parameter_with_state\n("
EMPTY = b"ccollections\nOrderedDict\n)R"
REPLACED = {
    "five parts of state": OTHER + b"(" + OTHER + b"\x89" + EMPTY + b"\x89Ntb",
    "attribute": OTHER + b"}" + text("data") + OTHER + b"sb",
    "attribute of a parameter": PARAMETER + OTHER + b"\x88" + EMPTY + b"}" + text("data") + OTHER + b"stR",
    "attribute behind many": PARAMETER
    + OTHER
    + b"\x88"
    + EMPTY
    + b"}("
    + b"".join(text(f"a{index}") + b"N" for index in range(200))
    + text("data")
    + OTHER
    + b"utR",
    "method of a dictionary": EMPTY + b"}" + text("items") + b"cbuiltins\nlist\nsb",
}


@pytest.mark.parametrize("name", REPLACED)
def test_state_that_replaces_what_is_described_is_unsafe(name: str) -> None:
    assert kinds(archive(saved(REPLACED[name]))) == {DefectKind.UNSAFE_GLOBAL}


def test_state_that_replaces_nothing_is_not_unsafe() -> None:
    harmless = OTHER + b"}" + text("mine") + b"K\x01sb" + EMPTY + b"}" + text("_metadata") + EMPTY + b"sb\x86"
    assert kinds(archive(saved(harmless))) == set()


def test_ids_and_tensors_with_other_numbers_of_parts_are_refused() -> None:
    good = saved(b"N")
    assert kinds(archive(good.replace(b"K\x02tQ", b"K\x02NtQ"))) == {DefectKind.TORCH_TRUNCATED}
    assert kinds(legacy(good)) == {DefectKind.TORCH_TRUNCATED}
    assert kinds(archive(good.replace(b"_rebuild_tensor_v2", b"_rebuild_tensor"))) == {DefectKind.STORAGE_MISSING}
    assert kinds(archive(good.replace(b"\x89ccollections\nOrderedDict\n)R", b""))) == {DefectKind.STORAGE_MISSING}
