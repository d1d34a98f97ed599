"""An open zip archive: its members by name, and their bytes within the limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt_doctor.core.defects import DefectKind
from ckpt_doctor.core.weight_file import Record
from ckpt_doctor.core.wording import byte_size

from .limits import Limits
from .pickle_values import PickleError
from .zip_directory import DEFLATED, STORED, Directory, Member

if TYPE_CHECKING:
    from ckpt_doctor.sources.source import Source


class Archive:
    """The members of the archive in ``source``; ``oddities`` are sentences on what readers could disagree about.

    ``by_name`` has the names as torch compares them: see :func:`folded`.
    """

    def __init__(self, source: Source, directory: Directory, members: list[Member], limits: Limits) -> None:
        self.source = source
        self.limits = limits
        self.members = members
        self.oddities = directory.oddities
        self.holes = directory.holes
        self.by_name: dict[str, Member] = {}
        for member in members:
            # The first of two, as torch does; the oddity says that there is another.
            if self.by_name.setdefault(folded(member.name), member) is not member:
                directory.odd(f"it has two members called {member.name}")

    def get(self, name: str) -> Member | None:
        """The member of this name, compared as torch does."""
        return self.by_name.get(folded(name))

    def content(self, member: Member) -> bytes:
        """The bytes of a member, inflated. Raises :class:`PickleError` where they are too many, or not there."""
        if member.offset is None or member.offset + member.stored > self.source.size:
            raise PickleError(DefectKind.TORCH_TRUNCATED, "its bytes are not all there")
        limit = min(self.limits.pickle, max(self.limits.inflated, self.limits.inflation * member.stored))
        if max(member.nbytes, member.stored) > limit:
            size = byte_size(max(member.nbytes, member.stored))
            raise PickleError(
                DefectKind.RESOURCE_BOMB, f"it takes {size}, of which {byte_size(member.stored)} are stored"
            )
        raw = self.source.read_at(member.offset, member.stored)
        if member.method == STORED:
            if member.stored != member.nbytes:
                self.oddities.append(f"member {member.name} is stored as it is, with two different lengths")
            return raw
        if member.method != DEFLATED:
            raise PickleError(
                DefectKind.AMBIGUOUS_ARCHIVE, f"compression method {member.method} is not one that torch reads"
            )
        return _inflated(raw, member, limit)

    def word(self, member: Member) -> bytes | None:
        """The bytes of a member that holds one word; ``None`` if it holds more, or cannot be read."""
        if max(member.nbytes, member.stored) > self.limits.word:
            return None
        try:
            return self.content(member)
        except PickleError:
            return None

    def beginning(self, member: Member, nbytes: int) -> bytes:
        """Up to ``nbytes`` from the beginning of a member, inflated; whatever is there of one that is damaged."""
        assert member.offset is not None, "the member has no bytes"
        raw = self.source.read_at(member.offset, min(member.stored, nbytes))
        if member.method == STORED:
            return raw
        import zlib

        try:
            return zlib.decompressobj(-15).decompress(raw, nbytes)
        except zlib.error:
            return b""

    def records(self) -> tuple[Record, ...]:
        """Every member whose bytes are in the file as they are, uncompressed."""
        return tuple(
            Record(member.name, member.offset, member.nbytes, member.crc32 or None)
            for member in self.members
            if member.method == STORED and member.offset is not None and member.stored == member.nbytes
        )


def _inflated(raw: bytes, member: Member, limit: int) -> bytes:
    """The content of a compressed member. Raises :class:`PickleError` where it is not what the directory says."""
    import zlib

    inflater = zlib.decompressobj(-15)
    try:
        data = inflater.decompress(raw, limit)
    except zlib.error as error:
        raise PickleError(DefectKind.TORCH_TRUNCATED, f"it cannot be inflated ({error})") from None
    if inflater.unconsumed_tail:
        raise PickleError(DefectKind.RESOURCE_BOMB, f"{len(raw):,} bytes inflate to more than {byte_size(limit)}")
    if len(data) != member.nbytes or not inflater.eof:
        raise PickleError(DefectKind.TORCH_TRUNCATED, f"it inflates to {len(data):,} of {member.nbytes:,} bytes")
    return data


def folded(name: str) -> str:
    """A name as torch's zip reader compares it: ASCII letters without case."""
    return name.lower() if name.isascii() else "".join(c.lower() if c.isascii() else c for c in name)


def escapes(name: str) -> bool:
    """True if a member's name leads anywhere but below the folder that it would be extracted to."""
    if name.startswith("/") or "\\" in name or "\0" in name or name[1:2] == ":":
        return True
    return ".." in name and ".." in name.split("/")
