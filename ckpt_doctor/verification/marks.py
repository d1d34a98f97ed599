"""Marks in the parameters that a load should overwrite, so that a value equal by accident is not taken for a load.

A parameter may hold the checkpoint's values before any load: zeros, ones, or a second load of the same file. So before
the user's loader runs, up to three elements of every tensor that the checkpoint has a value for (the first, the middle
one and the last) are set to a small number that is neither what stood there nor what the checkpoint has. A
parameter that equals the checkpoint afterwards was written by the load. Where a mark still stands, what was there
before is put back, so that a tensor that was left alone comes out as it was. This needs no memory and no pass over the
weights. What the marks cannot cover: parameters that the loader itself creates, and those on the meta device.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt_doctor.checkpoint import Checkpoint, TensorInfo

from .live import Target
from .matching import PartMatch
from .reading import TensorReader

if TYPE_CHECKING:
    import torch
    from torch import nn

_NUMBERS = (0.34375, -0.40625, 0.28125)  # exact in every float dtype of 16 bits and more
_WHOLE_NUMBERS = (3, 5, 7)  # small enough for whatever counts or indexes with them while the load goes on


Key = tuple[str, str, str]
"""File and tensor of the checkpoint, and the target in the model: what a mark is for."""


class _Mark(NamedTuple):
    """``offset`` counts elements of the storage; tied tensors are several keys of one mark."""

    keys: list[Key]
    owner: weakref.ref[torch.Tensor]
    offset: int
    before: torch.Tensor
    mark: torch.Tensor


class Marks:
    """The marks of one model. Placed before the load; :meth:`lift` after it, whatever happened in between."""

    def __init__(self) -> None:
        self._marks: list[_Mark] = []

    def place(self, model: nn.Module, checkpoint: Checkpoint, found: Iterable[PartMatch]) -> None:
        """Mark every tensor of ``model`` that one of the matches says is for a tensor of ``checkpoint``."""
        import torch

        owners = dict(_owners(model))
        seen: dict[tuple[int, int], list[Key]] = {}
        with TensorReader(checkpoint.root) as reader, torch.no_grad():
            for part in found:
                for match in (part, *part.rivals):
                    for item in part.tensors:
                        target = match.targets.get(item.tensor.name)
                        if target is not None:
                            self._mark(reader, item.file.path, item.tensor, target, owners, seen)

    def _mark(
        self,
        reader: TensorReader,
        file: str,
        info: TensorInfo,
        target: Target,
        owners: dict[str, torch.Tensor],
        seen: dict[tuple[int, int], list[Key]],
    ) -> None:
        same = not target.computed and target.shape == tuple(info.shape)
        behind = [owners[name] for name in target.names if name in owners]
        key = (file, info.name, target.name)
        for owner in behind[:1] if same else behind:
            view = target.value() if same else owner.detach()
            if not _can_be_marked(view):
                continue
            for index in _indices(tuple(view.shape)):
                offset = int(view.storage_offset()) + sum(
                    i * step for i, step in zip(index, view.stride(), strict=True)
                )
                spot = (view.untyped_storage().data_ptr(), offset)
                if spot in seen:
                    seen[spot].append(key)
                    continue
                seen[spot] = [key]
                before = view[index].clone()
                try:
                    saved = reader.element(file, info, index).to(view.dtype) if same else before.cpu()
                except (OSError, ValueError):  # the comparison after the load will say so
                    saved = before.cpu()
                mark = _unlike(before, saved)
                view[index] = mark
                self._marks.append(_Mark(seen[spot], weakref.ref(owner), offset, before, mark))

    def lift(self) -> frozenset[Key]:
        """Put back what stood under every mark that is still there; returns what they are for: it was not loaded."""
        import torch

        untouched: set[Key] = set()
        with torch.no_grad():
            for item in self._marks:
                owner = item.owner()
                element = None if owner is None else _element(owner, item.offset)
                if element is not None and element.dtype == item.mark.dtype and bool(element == item.mark):
                    element.copy_(item.before)
                    untouched.update(item.keys)
        self._marks.clear()
        return frozenset(untouched)


def _owners(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """The parameter and buffer objects themselves: a view of them would keep memory alive that a load replaces."""
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def _can_be_marked(view: torch.Tensor) -> bool:
    if view.device.type == "meta" or view.numel() == 0 or view.is_inference():
        return False
    # Elements of one byte are flags, or packed: a mark in them would be a mark in several values.
    return view.element_size() > 1 and not view.is_complex()


def _indices(shape: tuple[int, ...]) -> set[tuple[int, ...]]:
    return {
        tuple(0 for _ in shape),
        tuple(size // 2 for size in shape),
        tuple(size - 1 for size in shape),
    }


def _unlike(before: torch.Tensor, saved: torch.Tensor) -> torch.Tensor:
    """A number that is neither of the two."""
    import torch

    for number in _NUMBERS if before.is_floating_point() else _WHOLE_NUMBERS:
        mark = torch.tensor(number, dtype=before.dtype, device=before.device)
        if bool(mark != before) and bool(mark.cpu() != saved.cpu()):
            return mark
    raise AssertionError("three different numbers cannot all be one of two")


def _element(owner: torch.Tensor, offset: int) -> Any:
    data = owner.detach()
    if data.device.type == "meta" or offset >= data.untyped_storage().nbytes() // data.element_size():
        return None
    return data.as_strided((), (), offset)
