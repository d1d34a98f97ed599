"""The directory of a zip archive, read from both places that describe it.

Field layouts are those of PKWARE's APPNOTE 6.3.10, sections 4.3 and 4.5.3. Each member is described in the central
directory and again in the local header in front of its bytes, and what the two say differently is noted. Files of
``torch.save`` have zero as size and checksum in every local header and write them behind the bytes instead (flag bit
3): that is no difference.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from .limits import LIMITS, Limits
from .pickle_values import clipped

if TYPE_CHECKING:
    from ckpt_doctor.sources.source import Source

_END = Struct("<4s4H2IH")
_LOCATOR = Struct("<4sIQI")
_END64 = Struct("<4sQ2H2I4Q")
_CENTRAL = Struct("<4s6H3I5H2I")
_END64_REST = 44  # the length that a zip64 end record without extensions declares: all behind its first 12 bytes
_DOS_DIRECTORY = 0x10  # bit of the external attributes
_LOCAL = Struct("<4s5H3I2H")
_SIZES32 = Struct("<3I")
_SIZES64 = Struct("<I2Q")
_MAX32, _MAX16 = 0xFFFFFFFF, 0xFFFF

_DESCRIPTOR = 24  # most bytes that may follow a member: signature, CRC32, and two sizes of 8 bytes
_PADDING = 256  # most bytes of an extra field that come along with one read of a local header
_WINDOW = 8192  # bytes that are read at once for local headers

STORED, DEFLATED = 0, 8


class Member:
    """One member as the central directory describes it.

    ``header`` is the position of its local header, counted from the first byte of the archive. ``stored`` is its length
    in the file, ``nbytes`` once inflated, both in bytes. ``offset`` is the absolute position of its first byte, or
    ``None`` if there is no local header.
    """

    __slots__ = ("crc32", "flags", "header", "method", "name", "nbytes", "offset", "raw_name", "stored")

    def __init__(
        self, raw_name: bytes, flags: int, method: int, crc32: int, stored: int, nbytes: int, header: int
    ) -> None:
        self.name = _text(raw_name)
        self.raw_name = raw_name
        self.flags = flags
        self.method = method
        self.crc32 = crc32
        self.stored = stored
        self.nbytes = nbytes
        self.header = header
        self.offset: int | None = None


class Directory:
    """The members in the order of the central directory, and what is odd about the archive, as sentences.

    ``members`` is ``None`` if there is no central directory. ``holes`` are members without a local header, which no
    reader opens, each with what is odd about the bytes where it should be.
    """

    def __init__(self) -> None:
        self.members: list[Member] | None = None
        self.oddities: list[str] = []
        self.holes: dict[str, list[str]] = {}

    def odd(self, sentence: str) -> None:
        """Note an oddity; the first twenty are enough."""
        if len(self.oddities) < 20:
            self.oddities.append(clipped(sentence))

    def note(self, sentences: list[str], hole: str | None) -> None:
        """Note oddities, or what is odd about the place of a member without a local header."""
        if hole is None:
            for sentence in sentences:
                self.odd(sentence)
        elif len(self.holes) < 20 or hole in self.holes:
            self.holes.setdefault(hole, []).extend(clipped(sentence) for sentence in sentences)


def read_directory(source: Source, limits: Limits = LIMITS) -> Directory:
    """Read the directory of the zip archive in ``source``; never raises for what it holds."""
    directory = Directory()
    end = _find_end(source, directory)
    if end is None:
        return directory
    if end.size > limits.directory:
        directory.odd(f"its central directory takes {end.size:,} bytes")
        return directory
    start = end.position - end.size
    if end.size and source.read_at(start, 4) != b"PK\x01\x02":
        directory.odd(f"{start - end.start:,} bytes lie between its central directory and its end")
        start = end.start
    members = list(_records(source.read_at(start, end.size), directory))
    if len(members) != end.members:
        directory.odd(f"its end counts {end.members:,} members, the central directory has {len(members):,}")
    # Offsets count from the beginning of the archive, in front of which something else may have been put.
    _compare(source, members, start - end.start, start, directory)
    directory.members = members
    return directory


class _End(NamedTuple):
    """What the end of the archive says: where the directory is, counted from its first byte, and where the end is."""

    position: int
    start: int
    size: int
    members: int


def _find_end(source: Source, directory: Directory) -> _End | None:
    reach = min(source.size, _END.size + _MAX16)
    tail = source.read_at(source.size - reach, reach)
    base = source.size - len(tail)
    at = len(tail)
    # The signature may stand in a comment, or in bytes behind the archive: take the last that leads to a directory.
    while (at := tail.rfind(b"PK\x05\x06", 0, at)) >= 0:
        if at + _END.size > len(tail):
            continue
        _, disk, first_disk, here, count, size, start, comment = _END.unpack_from(tail, at)
        position = base + at
        # torch writes the wide records always.
        wide = _end64(source, position)
        narrow = (here, count, size, start)
        stray = wide is None and source.read_at(position - _LOCATOR.size, 4) == b"PK\x06\x07"
        if wide is not None:
            position, disk, first_disk, here, count, size, start = wide
        if not _leads_to_directory(source, position, start, size, count):
            continue
        trailing = len(tail) - at - _END.size - comment
        if trailing:
            directory.odd(f"{trailing:,} bytes follow its end" if trailing > 0 else "its comment is cut short")
        if b"PK\x05\x06" in tail[at + 4 :]:
            directory.odd("it has more than one end of a central directory")
        full = (_MAX16, _MAX16, _MAX32, _MAX32)
        if any(a not in (b, limit) for a, b, limit in zip(narrow, (here, count, size, start), full, strict=True)):
            directory.odd("its end and its zip64 end disagree")
        if stray:
            directory.odd("the zip64 locator before its end does not point to a zip64 end")
        if disk or first_disk or here != count:
            directory.odd("it says that it is one of several disks")
        return _End(position, start, size, count)
    return None


def _leads_to_directory(source: Source, position: int, start: int, size: int, count: int) -> bool:
    if count == 0 or size == 0:
        return count == size == 0
    if start + size > position:
        return False
    return b"PK\x01\x02" in (source.read_at(position - size, 4), source.read_at(start, 4))


def _end64(source: Source, end: int) -> tuple[int, int, int, int, int, int, int] | None:
    """The position and the fields of the zip64 end record that the locator in front of ``end`` points to."""
    raw = source.read_at(end - _LOCATOR.size, _LOCATOR.size) if end >= _LOCATOR.size else b""
    if len(raw) != _LOCATOR.size or not raw.startswith(b"PK\x06\x07"):
        return None
    position = _LOCATOR.unpack(raw)[2]
    raw = source.read_at(position, _END64.size)
    if len(raw) != _END64.size or not raw.startswith(b"PK\x06\x06"):
        return None
    _, length, _, _, disk, first_disk, here, count, size, start = _END64.unpack(raw)
    # The record stands directly in front of its locator, and nothing is in it that is not known.
    if length != _END64_REST or position + _END64.size != end - _LOCATOR.size:
        return None
    return position, disk, first_disk, here, count, size, start


def _records(raw: bytes, directory: Directory) -> Iterator[Member]:
    """The records of the central directory."""
    position = 0
    while position + _CENTRAL.size <= len(raw):
        record = _CENTRAL.unpack_from(raw, position)
        (
            signature,
            _,
            _,
            flags,
            method,
            _,
            _,
            crc32,
            stored,
            nbytes,
            name,
            extra,
            comment,
            disk,
            _,
            attributes,
            header,
        ) = record
        if signature != b"PK\x01\x02":
            break
        begin = position + _CENTRAL.size
        position = begin + name + extra + comment
        if position > len(raw):
            break
        if _MAX32 in (stored, nbytes, header):
            field64 = _extra_field(raw[begin + name : begin + name + extra], 1)
            wide = [int.from_bytes(field64[at : at + 8], "little") for at in range(0, len(field64) - 7, 8)]
            # Only the fields that are full in the record are there, in this order.
            if nbytes == _MAX32 and wide:
                nbytes = wide.pop(0)
            if stored == _MAX32 and wide:
                stored = wide.pop(0)
            if header == _MAX32 and wide:
                header = wide.pop(0)
        if disk:
            directory.odd("it says that a member is on another disk")
        member = Member(raw[begin : begin + name], flags, method, crc32, stored, nbytes, header)
        if nbytes and (attributes & _DOS_DIRECTORY or member.raw_name.endswith(b"/")):
            # A folder has no bytes.
            directory.odd(f"member {member.name} has {nbytes:,} bytes and is marked as a folder")
        yield member
    if position != len(raw):
        directory.odd(f"its central directory is damaged {position:,} bytes from its start")


def _extra_field(extra: bytes, wanted: int) -> bytes:
    position = 0
    while position + 4 <= len(extra):
        tag = int.from_bytes(extra[position : position + 2], "little")
        length = int.from_bytes(extra[position + 2 : position + 4], "little")
        if tag == wanted:
            return extra[position + 4 : position + 4 + length]
        position += 4 + length
    return b""


def _compare(source: Source, members: list[Member], shift: int, directory_start: int, directory: Directory) -> None:
    """Compare each record with its local header, in the order of the file, and find where the bytes begin."""
    reached = 0
    last: Member | None = None
    hole: str | None = None  # the member in front has no local header: its bytes belong to nobody
    window_begin, window = 0, b""
    for member in sorted(members, key=lambda member: member.header):
        header = member.header + shift
        gap = header - reached
        oddities: list[str] = []
        if not 0 <= gap <= _DESCRIPTOR:
            if gap < 0:
                directory.odd(f"member {member.name} begins inside the member in front of it")
            else:
                where = f"behind {last.name}" if last else "in front of its first member"
                oddities.append(f"{gap:,} bytes lie {where}")
            gap = 0
        begin = header - gap
        nbytes = gap + _LOCAL.size + len(member.raw_name) + _PADDING
        if not window_begin <= begin <= window_begin + len(window) - nbytes:
            # Small members lie close together: one read serves many of them.
            window_begin, window = begin, source.read_at(begin, max(nbytes, _WINDOW))
        raw = window[begin - window_begin : begin - window_begin + nbytes]
        if gap and not _is_descriptor(raw[:gap], last):
            oddities.append(f"{gap} bytes lie in front of member {member.name}")
        if not _has_local(raw[gap:]):
            oddities.append(f"member {member.name} has no local header at byte {header:,}")
            hole = hole or member.name
        directory.note(oddities, hole)
        if _has_local(raw[gap:]):
            member.offset, hole = _check_local(member, header, raw[gap:], directory), None
            reached, last = member.offset + member.stored, member
    gap = directory_start - reached
    if gap < 0:
        directory.odd("its last member runs into its central directory")
    elif gap and (gap > _DESCRIPTOR or not _is_descriptor(source.read_at(reached, gap), last)):
        directory.note([f"{gap:,} bytes lie in front of its central directory"], hole)


def _has_local(raw: bytes) -> bool:
    return len(raw) >= _LOCAL.size and raw.startswith(b"PK\x03\x04")


def _is_descriptor(raw: bytes, member: Member | None) -> bool:
    """True if this is the checksum and the sizes of ``member``, written behind its bytes, and nothing else."""
    if member is None or not member.flags & 8:
        return False
    numbers = member.crc32, member.stored, member.nbytes
    if max(numbers) <= _MAX32 and raw.endswith(_SIZES32.pack(*numbers)):
        return raw[: -_SIZES32.size] in (b"", b"PK\x07\x08")
    return raw.endswith(_SIZES64.pack(*numbers)) and raw[: -_SIZES64.size] in (b"", b"PK\x07\x08")


def _check_local(member: Member, header: int, raw: bytes, directory: Directory) -> int:
    """Where the bytes of a member begin, whose local header is ``raw``."""
    fields: tuple[int, ...] = _LOCAL.unpack_from(raw)[2:]
    flags, method, _, _, crc32, stored, nbytes, name_length, extra_length = fields
    local_name = raw[_LOCAL.size : _LOCAL.size + name_length]
    if local_name != member.raw_name:
        shown = local_name[:100].decode("utf-8", "replace")
        directory.odd(f"member {member.name} is called {shown} in its local header")
    if (flags | member.flags) & 0x61:
        directory.odd(f"member {member.name} is marked as encrypted or as a patch")
    if method != member.method:
        directory.odd(f"member {member.name} has the compression methods {member.method} and {method}")
    if not (flags | member.flags) & 8:
        if _MAX32 in (stored, nbytes):
            extra = raw[_LOCAL.size + name_length :][:extra_length]
            wide = _extra_field(extra, 1)
            nbytes = int.from_bytes(wide[:8], "little") if nbytes == _MAX32 and len(wide) >= 8 else nbytes
            stored = int.from_bytes(wide[8:16], "little") if stored == _MAX32 and len(wide) >= 16 else stored
        if (crc32, stored, nbytes) != (member.crc32, member.stored, member.nbytes):
            directory.odd(f"member {member.name} has another size or checksum in its local header")
    elif (flags ^ member.flags) & 8:
        directory.odd(f"member {member.name} has other flags in its local header")
    return header + _LOCAL.size + name_length + extra_length


def _text(raw_name: bytes) -> str:
    # Zip names are UTF-8 or code page 437; torch writes UTF-8 without saying so.
    try:
        return raw_name.decode("utf-8")
    except UnicodeDecodeError:
        return raw_name.decode("latin-1")
