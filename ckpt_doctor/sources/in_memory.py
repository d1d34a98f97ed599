"""Bytes in memory as a source."""

from __future__ import annotations


class BytesSource:
    """A :class:`~ckpt_doctor.sources.source.Source` of bytes that are in memory already."""

    fileno: int | None = None

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)

    def read_at(self, offset: int, nbytes: int) -> bytes:
        """See :class:`~ckpt_doctor.sources.source.Source`."""
        return self.data[offset : offset + nbytes] if offset >= 0 else b""
