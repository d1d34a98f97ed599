"""The object that a torch file holds, as the nodes of :mod:`.pickle_values`: for who must write it down again.

:class:`~ckpt_doctor.core.weight_file.WeightFile` names every tensor and value, and that is enough to judge a file. It
does not tell a list from a dictionary with the keys 0, 1, 2: that needs the tree itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ckpt_doctor.core.weight_file import WeightFile

from .pickle_machine import run
from .pickle_values import Budget

if TYPE_CHECKING:
    from ckpt_doctor.sources.source import Source

_LEGACY_PREAMBLE = 3  # pickles in front of the object: magic number, protocol version, facts about the machine


def read_tree(source: Source, file: WeightFile) -> Any:
    """The saved object of a torch file that was read from ``source`` without defects.

    ``None`` also where the pickle is compressed. Raises ``OSError``, and ``PickleError`` if it changed since.
    """
    if file.format == "torch-legacy":
        return _legacy(source)
    for record in file.records:
        if record.name.lower().rpartition("/")[2] == "data.pkl":
            outcome = run(source.read_at(record.offset, record.nbytes), Budget.for_stored(record.nbytes))
            if outcome.error is not None:
                raise outcome.error
            return outcome.root
    return None


def _legacy(source: Source) -> Any:
    from .torch_legacy import PickleStream

    stream = PickleStream(source)
    for _ in range(_LEGACY_PREAMBLE):
        stream.next()
    outcome = stream.next()
    if outcome.error is not None:
        raise outcome.error
    return outcome.root
