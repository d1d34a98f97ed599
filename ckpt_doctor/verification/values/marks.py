"""Marks in the parameters that a load should overwrite, so a value equal by accident is not taken for a load.

A parameter may hold the checkpoint's values before any load: zeros, ones, or a second load of the same file. So up to
three elements of every tensor that the checkpoint has a value for (the first, the middle one and the last) are looked
at before the user's loader runs. Where one is other than in the checkpoint, that is proof enough: equal afterwards, it
was written. Where it is alike, it is set to a number that is neither. The values are compared while the marks stand,
wherever the load has taken them: into a wrapper, a copy or another dtype. Then what was there before is put back. This
needs no memory and no pass over the weights. Parameters that the loader itself makes are marked as they are made: see
``births``.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, NamedTuple

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.verification.model.live import Target, plain_name
from ckpt_doctor.verification.names.wanted import wanted

from .births import Births
from .elements import are_alike, can_be_marked, indices, number_in
from .spots import Key, Spot, owners, spots

if TYPE_CHECKING:
    import torch
    from torch import nn

# No two alike, and exact in every float dtype but that of exponents, so they survive casts.
_NUMBERS = (0.3125, -0.4375, 0.875)
_WHOLE_NUMBERS = (3, 5, 7)  # small enough for whatever counts or indexes with them during the load
_BYTES = (0x34, 0xB9, 0x2D)  # for floats of one byte, whose formats differ

_STANDS, _SAME, _OVERWRITTEN = "stands", "same", "overwritten"


class _Mark(NamedTuple):
    """``number`` is ``None`` if what was there before is mark enough."""

    name: str
    owner: weakref.ref[torch.Tensor]
    shape: tuple[int, ...]
    at: tuple[int, ...]
    before: torch.Tensor
    number: torch.Tensor | None


class Fates(NamedTuple):
    """What became of marks, by the address of the element and by the name of the parameter.

    Parameters that the load made itself were ``followed`` where their kind can be marked. ``unproven`` are the tensors
    whose parameters could not be marked and are still the same.
    """

    by_address: dict[int, set[str]]
    by_name: dict[str, set[str]]
    unproven: frozenset[Key]

    def followed(self, target: Target) -> bool:
        """True if a mark would stand in ``target`` if the load had made it and written nothing to it."""
        floats = target.dtype.is_floating_point and target.dtype.itemsize > 1
        # Of whole numbers only these are known to begin with a zero that is written, and so marked.
        counts = target.name.endswith(".num_batches_tracked")
        return target.whole and (counts or (floats and math.prod(target.shape) > 1))

    def untouched(self, target: Target) -> bool | None:
        """True if the load left ``target`` alone, or a part of it; ``None`` if there was no mark."""
        if target.computed:
            fates = [self.by_name.get(name) for name in target.names]
        else:
            view = target.value()
            places = [view[index].data_ptr() for index in indices(target.shape)] if can_be_marked(view) else []
            fates = [self.by_address.get(place) for place in places]
        seen = {fate for found in fates if found for fate in found}
        return (_STANDS in seen or _OVERWRITTEN not in seen) if seen else None


@contextmanager
def marked(model: nn.Module | None, checkpoint: Checkpoint) -> Iterator[Marks]:
    """The marks of one load. When the block ends, whatever happened, the model has its own values again.

    Without a ``model`` the load makes its own.
    """
    shapes = {tuple(item.tensor.shape) for items in wanted(checkpoint).values() for item in items}
    marks = Marks(model, shapes)
    try:  # also while marks are placed: Ctrl-C may come then
        if model is not None:
            # No name for the spots: they hold tensors that the load may replace.
            marks.place(spots(model, checkpoint))
        yield marks
    finally:
        marks.lift()


class Marks:
    """Places marks in one model, watches the load, says what became of the marks, and lifts them.

    ``shapes`` are those of the checkpoint's tensors.
    """

    def __init__(self, model: nn.Module | None, shapes: Iterable[tuple[int, ...]]) -> None:
        self._models = [model] if model is not None else []
        self._given = model
        self._marks: list[_Mark] = []
        self._births = Births(shapes)
        self._refused: dict[Key, weakref.ref[torch.Tensor]] = {}

    def place(self, chosen: Iterable[Spot]) -> None:
        """Mark each of the ``chosen`` spots where what it holds is not mark enough."""
        for spot in chosen:
            number = _number(spot)
            owner = weakref.ref(spot.owner)
            # First, so that an interrupt lifts it.
            self._marks.append(_Mark(spot.name, owner, tuple(spot.owner.shape), spot.at, spot.before, number))
            if number is not None:
                try:
                    _write(spot.owner.data[spot.at], number)
                except (RuntimeError, TypeError):  # a tensor of a class with ideas of its own
                    self._marks.pop()
                    self._refused |= dict.fromkeys(spot.keys, owner)

    def watched(self) -> AbstractContextManager[None]:
        """The load itself must happen within this block."""
        return self._births.watched(self._given)

    def fates(self, model: nn.Module) -> Fates:
        """Where the marks still stand in ``model``, which is what the load made of the marked one."""
        if all(model is not other for other in self._models):
            self._models.append(model)
        called: dict[int, list[str]] = {}
        for name, tensor in owners(model):
            called.setdefault(id(tensor), []).append(name)
        fates = Fates({}, {}, frozenset(key for key, owner in self._refused.items() if id(owner()) in called))
        for mark, tensor, element in self._elements():
            fate = _OVERWRITTEN if not _holds(element, mark) else _STANDS if mark.number is not None else _SAME
            for name in called.get(id(tensor), ()):
                fates.by_address.setdefault(element.data_ptr(), set()).add(fate)
                fates.by_name.setdefault(name, set()).add(fate)
        for name, tensor in owners(model):
            if self._births.untouched(tensor):
                fates.by_name.setdefault(name, set()).add(_STANDS)
                for index in indices(tuple(tensor.shape)):
                    fates.by_address.setdefault(tensor.data[index].data_ptr(), set()).add(_STANDS)
        return fates

    def lift(self) -> None:
        """Put back what stood under every mark that is still there."""
        self._births.lift(tensor for model in self._models for _, tensor in owners(model))
        for mark, _, element in self._elements():
            if mark.number is not None and _holds(element, mark):
                _write(element, mark.before)
        self._marks.clear()
        self._models = [] if self._given is None else [self._given]

    def _elements(self) -> Iterator[tuple[_Mark, torch.Tensor, torch.Tensor]]:
        """Each mark with every tensor that it may be in by now, and the element there.

        That is the tensor that was marked, and whatever has its name now: in the model itself, or in another one that
        the load put around it.
        """
        if not self._marks:
            return
        named = dict(owners(self._models[0]))
        further: dict[str, list[torch.Tensor]] = {}
        for model in self._models[1:]:
            for name, tensor in owners(model):
                for end in _ends(plain_name(name)):
                    further.setdefault(end, []).append(tensor)
        known = {id(tensor) for tensor in named.values()} if further else set()
        for mark in self._marks:
            others = (item for item in further.get(plain_name(mark.name), ()) if id(item) not in known)
            tensors = {id(item): item for item in (mark.owner(), named.get(mark.name), *others) if item is not None}
            for tensor in tensors.values():
                if tuple(tensor.shape) == mark.shape and can_be_marked(tensor):
                    yield mark, tensor, tensor.data[mark.at]


def _number(spot: Spot) -> torch.Tensor | None:
    """What is neither there nor in the checkpoint; ``None`` if these two differ already."""
    import torch

    before = spot.before
    saved = [item for item in spot.saved if item is not None]
    if len(saved) == len(spot.saved) and not any(are_alike(before, item) for item in saved):
        return None
    if before.dtype == torch.bool:
        return ~before
    whole = not before.is_floating_point() and not before.is_complex()
    numbers = _WHOLE_NUMBERS if whole else _BYTES if before.element_size() == 1 else _NUMBERS
    marks = []
    for number in numbers:
        dtype = torch.uint8 if numbers is _BYTES else before.dtype
        marks.append(torch.tensor(number, dtype=dtype, device=before.device).view(before.dtype))
    # One that is no mark for a second tensor of the same place is one for the first.
    marks.sort(key=lambda mark: sum(are_alike(mark, item) for item in (before, before, *saved)))
    return marks[0]


def _holds(element: torch.Tensor, mark: _Mark) -> bool:
    """True if the mark is still there, also in another dtype of the same kind."""
    expected = mark.before if mark.number is None else mark.number
    if (element.is_floating_point(), element.is_complex()) != (expected.is_floating_point(), expected.is_complex()):
        return False
    return bool(number_in(element) == number_in(expected.to(element.dtype)))


def _write(element: torch.Tensor, value: torch.Tensor) -> None:
    """Through ``data``, which autograd does not watch: a backward pass that is still to come needs what was there."""
    import torch

    with torch.inference_mode(element.is_inference()), torch.no_grad():
        element.copy_(value)


def _ends(name: str) -> Iterator[str]:
    words = name.split(".")
    for start in range(len(words)):
        yield ".".join(words[start:])
