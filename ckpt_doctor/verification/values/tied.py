"""Two matrices on disk for one parameter that the config ties: what becomes of the second one, told without a load."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ckpt_doctor.core.coverage import MISMATCHED, RESTORED
from ckpt_doctor.verification.model.live import place

from .comparing import same_bytes
from .reading import TensorReader
from .row import Row

if TYPE_CHECKING:
    from torch import nn

_DETAIL = (
    "differs from {}, to which the config ties it: transformers 5 keeps both and warns, transformers 4 overwrites this "
    "one without a word. Set tie_word_embeddings to false if the model was trained with both"
)


def judge_tied(model: nn.Module, rows: Iterable[Row], reader: TensorReader) -> None:
    """Complete the rows of tensors that are tied to another one of the file with other values, in place.

    Equal copies, as many programs save them, are the same parameter twice.
    """
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        if row.status == RESTORED and row.target is not None and row.target.whole and not row.target.computed:
            groups.setdefault(place(row.target.value()), []).append(row)
    for group in groups.values():
        if len(group) > 1:
            _judge(group, _tied_keys(model), reader)


def _judge(group: list[Row], tied: frozenset[str], reader: TensorReader) -> None:
    sources = [row for row in group if row.target and not row.target.name.endswith(tuple(tied))] if tied else []
    source = (sources or group)[0]
    for row in group:
        if row is not source and not _are_equal(row, source, reader):
            row.status, row.detail = MISMATCHED, _DETAIL.format(source.wanted.tensor.name)


def _tied_keys(model: nn.Module) -> frozenset[str]:
    """The names of what the model ties to its input: a list of them up to transformers 4, a mapping from 5 on."""
    keys = getattr(model, "_tied_weights_keys", None)
    return frozenset(str(key).rpartition("^")[2] for key in keys or ())


def _are_equal(row: Row, other: Row, reader: TensorReader) -> bool:
    ours, theirs = row.wanted, other.wanted
    try:
        return same_bytes(reader, (ours.file.path, ours.tensor), (theirs.file.path, theirs.tensor))
    except (OSError, ValueError):  # what cannot be read is told elsewhere
        return True
