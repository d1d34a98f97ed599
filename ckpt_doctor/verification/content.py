"""Where names say nothing: tensors found by their values, where exactly one parameter has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ckpt_doctor.checkpoint import Checkpoint
from ckpt_doctor.coverage import CAST, MISSING, RESTORED

from .comparing import Comparison, Verdict, compare
from .live import direct, live_tensors, parameter_names, place
from .reading import TensorReader

if TYPE_CHECKING:
    from torch import nn

_SHALLOW = 3  # words of a name such as net.0.weight, which another model may call fc.weight
_MOST = 2000  # tensors without a name that fits; beyond that the model is simply another one


def by_content(model: nn.Module, checkpoint: Checkpoint, rows: list[Any]) -> None:
    """Complete the rows that have no target, in place.

    A tensor whose elements are all equal is left alone: it could have come from anywhere. So is one that two parameters
    hold, or two tensors of the checkpoint, and one of a layer whose number the parameter does not bear.
    """
    lost = [row for row in rows if row.target is None and row.wanted.tensor.numel > 1]
    if not lost or len(lost) > _MOST:
        return
    taken = {place(row.target.value()) for row in rows if row.target is not None and not row.target.computed}
    free: dict[tuple[int, ...], dict[Any, str]] = {}
    tensors = live_tensors(model)
    for name, value in tensors.items():
        if place(value) not in taken and value.device.type != "meta":
            free.setdefault(tuple(value.shape), {}).setdefault(place(value), name)
    trained = parameter_names(model)
    hits: dict[str, list[tuple[Any, Comparison]]] = {}
    with TensorReader(checkpoint.root) as reader:
        for row in lost:
            info = row.wanted.tensor
            candidates = free.get(tuple(info.shape), {}).values()
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
            row.target = direct(name, tensors[name], trained=name in trained)
            row.verdict = found.verdict
            row.status = RESTORED if found.verdict is Verdict.EQUAL else CAST
            row.detail = "found by its values" if row.status == RESTORED else found.dtypes
    assert all(row.status != MISSING or row.target is None for row in lost)


def _layers(name: str) -> set[str]:
    """The numbers in the name of a tensor that lies deep in a model: wherever a loader puts it, it is of that layer.

    Without this, a state dict that was merely kept somewhere in the model would count as loaded.
    """
    words = name.split(".")
    return {word for word in words if word.isdecimal()} if len(words) > _SHALLOW else set()


def _constant(reader: TensorReader, row: Any) -> bool:
    try:
        for _, data in reader.chunks(row.wanted.file.path, row.wanted.tensor):
            values = data.view(-1, row.wanted.tensor.dtype.bits // 8) if data.element_size() == 1 else data.view(-1, 1)
            if not bool((values == values[0]).all()):
                return False
    except (OSError, ValueError):
        return True
    return True
