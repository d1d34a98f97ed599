"""Where no name fits: tensors found by their values, where exactly one parameter has them and is the place for them."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from typing import TYPE_CHECKING

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.coverage import CAST, MISSING, RESTORED
from ckpt_doctor.verification.model.live import LiveModel, Place, direct, place

from .comparing import Comparison, Verdict, compare
from .reading import TensorReader
from .row import Row

if TYPE_CHECKING:
    pass

_SHALLOW = 3  # words of a name such as net.0.weight, which another model may call fc.weight
MOST = 2000
"""Tensors without a name that fits; beyond that the model is simply another one."""

# The words in a name: wq is two, as q_proj is.
_WORDS = re.compile(r"(?<![a-z])w(?=[qkvo](?![a-z]))|[a-z]+|[0-9]+")


def by_content(live: LiveModel, checkpoint: Checkpoint, rows: list[Row]) -> None:
    """Complete the rows that have no target, in place.

    A tensor whose elements are all equal is left alone: it could have come from anywhere. So is one that two parameters
    hold, or two tensors of the checkpoint, and one of a layer whose number the parameter does not bear. Values say
    nothing about the place: where others have the same shape, that parameter must be the one that is named most alike.
    """
    lost = [row for row in rows if row.target is None and row.wanted.tensor.numel > 1]
    if not lost or len(lost) > MOST:
        return
    taken = {place(row.target.value()) for row in rows if row.target is not None and not row.target.computed}
    tensors = live.tensors
    free = free_names(live, taken)
    hits: dict[str, list[tuple[Row, Comparison]]] = {}
    with TensorReader(checkpoint.root) as reader:
        for row in lost:
            info = row.wanted.tensor
            candidates = free.get(tuple(info.shape), ())
            if not candidates or _constant(reader, row):
                continue
            equal = []
            # One element tells most candidates apart, before any is read as a whole.
            middle = tuple(size // 2 for size in info.shape)
            probe = reader.element(row.wanted.file.path, info, middle)
            layers = _layers(info.name)
            for name in candidates:
                if not layers.issubset(name.split(".")):
                    continue
                if not bool(probe.to(tensors[name].dtype) == tensors[name][middle].cpu()):
                    continue
                found = compare(reader, row.wanted.file.path, info, tensors[name])
                if found.verdict is not Verdict.DIFFERENT:
                    equal.append((name, found))
            if len(equal) == 1:
                hits.setdefault(equal[0][0], []).append((row, equal[0][1]))
    for name, sources in hits.items():
        if len(sources) == 1:
            row, found = sources[0]
            info = row.wanted.tensor
            if not _is_named_for(info.name, name, free[tuple(info.shape)]):
                row.found_in = name
                row.detail = f"its values are in {name}, but the name does not show that they belong there"
                continue
            row.target = direct(name, tensors[name], trained=name in live.parameters)
            row.verdict = found.verdict
            row.status = RESTORED if found.verdict is Verdict.EQUAL else CAST
            row.detail = "found by its values" if row.status == RESTORED else found.dtypes
    assert all(row.status != MISSING or row.target is None for row in lost)


def free_names(live: LiveModel, taken: Container[Place]) -> dict[tuple[int, ...], list[str]]:
    """By shape, the tensors of the model that nothing has ``taken``, tied ones once."""
    free: dict[tuple[int, ...], dict[Place, str]] = {}
    for name, value in live.tensors.items():
        where = place(value)
        if where not in taken and value.device.type != "meta":
            free.setdefault(tuple(value.shape), {}).setdefault(where, name)
    return {size: list(names.values()) for size, names in free.items()}


def _is_named_for(tensor: str, name: str, candidates: Iterable[str]) -> bool:
    """True if no other candidate shares as many words with the name of the tensor."""
    others = [_common_words(tensor, other) for other in candidates if other != name]
    return not others or _common_words(tensor, name) > max(others)


def _common_words(first: str, second: str) -> int:
    """Length of the longest sequence of words that both names have in this order.

    >>> _common_words("model.layers.0.self_attn.q_proj.weight", "layers.0.attn.wq.weight")
    5
    """
    ours, theirs = _WORDS.findall(first.lower()), _WORDS.findall(second.lower())
    row = [0] * (len(theirs) + 1)
    for word in ours:
        before = list(row)
        for number, other in enumerate(theirs):
            row[number + 1] = before[number] + 1 if word == other else max(before[number + 1], row[number])
    return row[-1]


def _layers(name: str) -> set[str]:
    """The numbers in the name of a tensor that lies deep in a model: wherever a loader puts it, it is of that layer.

    Without this, a state dict that was kept somewhere in the model would count as loaded.
    """
    words = name.split(".")
    return {word for word in words if word.isdecimal()} if len(words) > _SHALLOW else set()


def _constant(reader: TensorReader, row: Row) -> bool:
    try:
        for _, data in reader.chunks(row.wanted.file.path, row.wanted.tensor):
            values = data.view(-1, row.wanted.tensor.dtype.bits // 8) if data.element_size() == 1 else data.view(-1, 1)
            if not bool((values == values[0]).all()):
                return False
    except (OSError, ValueError):
        return True
    return True
