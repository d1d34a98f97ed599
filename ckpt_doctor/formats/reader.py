"""What a reader of a file format is: the contract of ``safetensors.py``, ``torch_zip.py`` and ``torch_legacy.py``.

``recognise.py`` chooses the reader by the first bytes of a file. A new format is one file with such a function, one
entry in the table of ``recognise.py``, and one word in :data:`~ckpt_doctor.core.weight_file.FileFormat`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ckpt_doctor.core.weight_file import WeightFile
    from ckpt_doctor.sources.source import Source

    from .limits import Limits


class Reader(Protocol):
    """Reads the headers of one file, and executes nothing that is in it."""

    def __call__(self, source: Source, path: str, limits: Limits = ..., /) -> WeightFile:
        """The file behind ``source``; ``path`` is its path in the checkpoint, with ``/``.

        What the file holds is never an exception: damage and danger become defects, and tensors that can be described
        are listed nevertheless. Memory and time stay within ``limits``. An ``OSError`` of the source passes through.
        """
