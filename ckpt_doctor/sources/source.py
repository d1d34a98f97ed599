"""What a reader gets its bytes from.

Readers ask for ranges and never for a whole file. A remote object can implement the same three members.
"""

from __future__ import annotations

from typing import Protocol


class Source(Protocol):
    """A sequence of bytes. ``size`` counts them; ``fileno`` is the descriptor of the file, ``None`` if it has none.

    Implementations: :class:`~ckpt_doctor.sources.local_file.FileSource` and
    :class:`~ckpt_doctor.sources.in_memory.BytesSource`.
    """

    size: int
    fileno: int | None

    def read_at(self, offset: int, nbytes: int) -> bytes:
        """Up to ``nbytes`` bytes from ``offset``; fewer only where the source ends. Raises ``OSError``.

        Offsets outside the source, such as a file may claim, give no bytes.
        """
