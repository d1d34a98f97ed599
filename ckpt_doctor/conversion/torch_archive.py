"""The zip archives that ``torch.save`` writes, byte for byte: where each member lies, and what stands around it.

Read off torch 2.13 (``PyTorchStreamWriter`` in ``caffe2/serialize``, over miniz): members are stored as they are, the
bytes of each begin at a multiple of 64, checksum and sizes follow the bytes, and the central directory is a zip64 one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple

FOLDER = "archive"
"""The folder of all members; ``torch.save`` to an open file calls it so."""

ALIGNMENT = 64
_FIXED = 30  # bytes of a local header in front of the name
_MAX32 = 0xFFFF_FFFF
_ZIP64 = 1  # id of the extra field with sizes and offsets of 64 bits
_FLAGS_EMPTY, _FLAGS = 0x0800, 0x0808  # names are UTF-8; checksum and sizes follow the bytes


class Place(NamedTuple):
    """Where a member lies: ``header`` is the position of its local header, ``start`` of its first byte."""

    name: str
    nbytes: int
    header: int
    start: int

    @property
    def end(self) -> int:
        """The position behind the bytes and what follows them."""
        return self.start + self.nbytes + (self._descriptor_nbytes if self.nbytes else 0)

    @property
    def _descriptor_nbytes(self) -> int:
        return 24 if self._extra else 16

    @property
    def _extra(self) -> bytes:
        """The extra field of a member whose size or position takes more than 32 bits; as miniz has it."""
        values = [self.nbytes, self.nbytes] if self.nbytes >= _MAX32 else []
        values += [self.header] if self.header >= _MAX32 else []
        return struct.pack(f"<HH{len(values)}Q", _ZIP64, 8 * len(values), *values) if values else b""

    @property
    def _flags(self) -> int:
        return _FLAGS if self.nbytes else _FLAGS_EMPTY

    def local_header(self) -> bytes:
        """Everything from ``header`` to ``start``."""
        name, extra = self.name.encode(), self._extra
        padding = self.start - self.header - _FIXED - len(name) - len(extra) - 4
        extra += b"FB" + struct.pack("<H", padding) + b"Z" * padding
        return struct.pack("<4s5H3L2H", b"PK\3\4", 0, self._flags, *[0] * 6, len(name), len(extra)) + name + extra

    def descriptor(self, crc32: int) -> bytes:
        """What follows the bytes."""
        if not self.nbytes:
            return b""
        return struct.pack("<4sL2Q" if self._extra else "<4s3L", b"PK\7\10", crc32, self.nbytes, self.nbytes)

    def entry(self, crc32: int) -> bytes:
        """What the central directory says of it."""
        name, extra = self.name.encode(), self._extra
        nbytes = min(self.nbytes, _MAX32)
        lengths = (len(name), len(extra), 0, 0, 0)
        fields = (0, 0, self._flags, 0, 0, 0, crc32, nbytes, nbytes, *lengths, 0, min(self.header, _MAX32))
        return struct.pack("<4s6H3L5H2L", b"PK\1\2", *fields) + name + extra


def laid_out(sizes: Iterable[tuple[str, int]]) -> list[Place]:
    """The places of members, given their names and bytes, one behind the other from the beginning of a file."""
    places = []
    position = 0
    for name, nbytes in sizes:
        place = Place(f"{FOLDER}/{name}", nbytes, position, position)
        # The padding is in an extra field, which takes 4 bytes for itself.
        unpadded = position + _FIXED + len(place.name.encode()) + len(place._extra) + 4
        place = place._replace(start=-(-unpadded // ALIGNMENT) * ALIGNMENT)
        places.append(place)
        position = place.end
    return places


def directory(places: Sequence[Place], checksums: Iterable[int]) -> bytes:
    """Everything behind the members."""
    start = places[-1].end
    entries = b"".join(place.entry(crc32) for place, crc32 in zip(places, checksums, strict=True))
    count, nbytes = len(places), len(entries)
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 0x031E, 45, 0, 0, count, count, nbytes, start)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, start + nbytes, 1)
    short = min(count, 0xFFFF)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, short, short, min(nbytes, _MAX32), min(start, _MAX32), 0)
    return entries + end64 + locator + end


def directory_nbytes(places: Sequence[Place]) -> int:
    """The length of what :func:`directory` gives."""
    return len(directory(places, [0] * len(places)))


def serialization_id(places: Iterable[Place], checksums: Iterable[int]) -> bytes:
    """40 digits for the content: 20 for the names, 20 for the checksums, as torch has it, but for the hash function.

    torch's is that of its C++ library, and differs between them.
    """
    names, sums = blake2b(digest_size=8), blake2b(digest_size=8)
    for place in places:
        names.update(place.name.encode() + b"\0")
    for crc32 in checksums:
        sums.update(struct.pack("<L", crc32))
    return b"".join(b"%020d" % int.from_bytes(half.digest(), "little") for half in (names, sums))
