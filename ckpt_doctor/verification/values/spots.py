"""The elements of a model that tell whether the tensors of a checkpoint were loaded: where marks may have to be."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.verification.model.live import LiveModel, Target, direct, place
from ckpt_doctor.verification.names.matching import match
from ckpt_doctor.verification.names.wanted import Wanted

from .content import MOST, free_names
from .reading import TensorReader

if TYPE_CHECKING:
    import torch
    from torch import nn

_ALIKE = 0.25  # relative: values that a cast through a narrow dtype could make the same
_TINY, _HUGE = 1e-4, 400.0  # and those that it could make zero, or infinite

Key = tuple[str, str]
"""File and tensor of the checkpoint."""

Index = tuple[int, ...]


class Spot(NamedTuple):
    """One element of a parameter, what it holds, and what each tensor of ``keys`` has for it.

    That is ``None`` where it cannot be known before the load.
    """

    name: str
    owner: torch.Tensor
    at: Index
    before: torch.Tensor
    keys: list[Key]
    saved: list[torch.Tensor | None]


def spots(model: nn.Module, checkpoint: Checkpoint) -> list[Spot]:
    """The first element, the middle one and the last of every place in ``model`` that ``checkpoint`` has values for."""
    named = dict(owners(model))
    live = LiveModel(model)
    matches = match(live, checkpoint)
    rivals = [[part, *part.rivals] for part in matches]
    targets = [target for group in rivals for item in group for target in item.targets.values()]
    free = free_names(live, {place(item.value()) for item in targets if not item.computed})
    found: dict[int, Spot] = {}
    with TensorReader(checkpoint.root) as reader:
        for group in rivals:
            lost = sum(all(item.tensor.name not in one.targets for one in group) for item in group[0].tensors)
            for item in group[0].tensors:
                saved = _saved(reader, item)
                here = [one.targets[item.tensor.name] for one in group if item.tensor.name in one.targets]
                new = [spot for target in here for spot in _of_target(item, target, named, saved)]
                if not here:
                    # PEFT moves a module that it copies under one more word, and may save both.
                    moved = _moved_from(item, named)
                    if moved is not None:
                        new += _of_target(item, direct(moved, named[moved].detach()), named, saved)
                if not here and lost <= MOST:
                    # A name that says nothing: what holds its values already could be taken for the place of it.
                    for name in free.get(tuple(item.tensor.shape), ()):
                        guess = list(_of_target(item, direct(name, named[name].detach()), named, saved))
                        new += guess if all(_could_be_the_same(spot) for spot in guess) else []
                for spot in new:
                    first = found.setdefault(spot.owner[spot.at].data_ptr(), spot)
                    if first is not spot:
                        first.keys.extend(spot.keys)
                        first.saved.extend(spot.saved)
    return list(found.values())


def _moved_from(item: Wanted, named: Mapping[str, torch.Tensor]) -> str | None:
    """What the parameter of a module that PEFT keeps as ``original_module`` is called before that."""
    words = item.tensor.name.split(".")
    if "original_module" not in words:
        return None
    words.remove("original_module")
    names = (".".join(words[start:]) for start in range(len(words)))
    return next((name for name in names if name in named and named[name].shape == item.tensor.shape), None)


def owners(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """The parameter and buffer objects themselves: a view of them would keep memory alive that a load replaces."""
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def can_be_marked(tensor: torch.Tensor) -> bool:
    """Whether it has elements, and memory for them."""
    import torch

    if torch.nn.parameter.is_lazy(tensor):  # its shape comes with the first forward pass
        return False
    if tensor.device.type == "meta" or tensor.layout is not torch.strided or tensor.is_quantized:
        return False
    return tensor.numel() > 0


def indices(shape: tuple[int, ...]) -> set[Index]:
    """The first, the middle and the last index of a tensor of this shape."""
    return {
        tuple(0 for _ in shape),
        tuple(size // 2 for size in shape),
        tuple(size - 1 for size in shape),
    }


def number_in(element: torch.Tensor) -> Any:
    """The element as a number; of floats of one byte, which have no arithmetic, that byte."""
    import torch

    packed = element.element_size() == 1 and element.is_floating_point()
    return (element.view(torch.uint8) if packed else element).item()


def are_alike(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether two elements of one dtype are the same, or could be after casts."""
    one, other = number_in(first), number_in(second)
    if not first.is_floating_point() and not first.is_complex():
        return bool(one == other)
    if first.element_size() == 1:
        return bool(abs(one - other) <= 1)
    if one == other or (one != one and other != other):
        return True
    small, large = sorted((abs(one), abs(other)))
    if large < _TINY or (small > _HUGE and math.isinf(large)):
        return True
    return math.isfinite(large) and abs(one - other) <= _ALIKE * large


def _of_target(
    item: Wanted, target: Target, named: Mapping[str, torch.Tensor], saved: Mapping[Index, torch.Tensor]
) -> Iterator[Spot]:
    """The spots of ``target``, by the parameters that they are in.

    What is ``computed`` from several of them shows a mark in any one. What has another shape cannot be loaded.
    """
    key = (item.file.path, item.tensor.name)
    if not target.computed and target.shape != tuple(item.tensor.shape):
        return
    for name in target.names:
        owner = named.get(name)
        if owner is None:
            continue
        view = owner.detach() if target.computed else target.value()
        if not can_be_marked(view):
            continue
        for index in indices(tuple(view.shape)):
            element = view[index]
            value = saved.get(index) if not target.computed else None
            offset = int(element.storage_offset() - owner.storage_offset())
            value = None if value is None else value.to(element.dtype).to(element.device)
            yield Spot(name, owner, _unravelled(owner, offset), element.clone(), [key], [value])


def _saved(reader: TensorReader, item: Wanted) -> dict[Index, torch.Tensor]:
    info = item.tensor
    if not info.numel:
        return {}
    try:
        return {index: reader.element(item.file.path, info, index) for index in indices(tuple(info.shape))}
    except (OSError, ValueError):  # the comparison after the load will say so
        return {}


def _could_be_the_same(spot: Spot) -> bool:
    return all(item is not None and are_alike(spot.before, item) for item in spot.saved)


def _unravelled(owner: torch.Tensor, offset: int) -> Index:
    """The index of the element that lies ``offset`` elements behind the first one."""
    index = [0] * owner.dim()
    for dim in sorted(range(owner.dim()), key=owner.stride, reverse=True):
        if owner.stride(dim):
            index[dim], offset = divmod(offset, owner.stride(dim))
    return tuple(index)
