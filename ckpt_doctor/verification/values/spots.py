"""The elements of a model that tell whether the tensors of a checkpoint were loaded: where marks may have to be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.weight_file import TensorInfo
from ckpt_doctor.verification.model.live import LiveModel, Target, direct, place
from ckpt_doctor.verification.names.matching import PartMatch, match

from .content import MOST, free_names
from .elements import Index, are_alike, can_be_marked, indices, saved_elements

if TYPE_CHECKING:
    import torch
    from torch import nn

Key = tuple[str, str]
"""File and tensor of the checkpoint."""


class Spot(NamedTuple):
    """One element of a parameter, what it holds, and what each tensor of ``keys`` has for it.

    That is ``None`` if it cannot be known before the load.
    """

    name: str
    owner: torch.Tensor
    at: Index
    before: torch.Tensor
    keys: list[Key]
    saved: list[torch.Tensor | None]


class _Place(NamedTuple):
    """A target that the tensor ``key`` may be for, and may have the shape of; ``guessed`` where no name says so."""

    key: Key
    target: Target
    guessed: bool = False


def spots(model: nn.Module, checkpoint: Checkpoint) -> list[Spot]:
    """The first element, the middle one and the last of every place in ``model`` that ``checkpoint`` has values for."""
    live, named = LiveModel(model), dict(owners(model))
    matches = match(live, checkpoint)
    tensors = ((item.file.path, item.tensor) for part in matches for item in part.tensors)
    saved = saved_elements(checkpoint.root, tensors)
    found: dict[int, Spot] = {}
    for key, target, guessed in _places(live, named, matches):
        new = list(_of_target(key, target, named, saved[key]))
        if guessed and not all(_could_be_the_same(spot) for spot in new):
            continue
        for spot in new:
            first = found.setdefault(spot.owner[spot.at].data_ptr(), spot)
            if first is not spot:
                first.keys.extend(spot.keys)
                first.saved.extend(spot.saved)
    return list(found.values())


def _places(live: LiveModel, named: Mapping[str, torch.Tensor], matches: list[PartMatch]) -> Iterator[_Place]:
    """Where the tensors may belong: by their names, under the name before PEFT moved a module, or by a guess."""
    rivals = [[part, *part.rivals] for part in matches]
    targets = [target for group in rivals for item in group for target in item.targets.values()]
    free = free_names(live, {place(item.value()) for item in targets if not item.computed})
    for group in rivals:
        lost = sum(all(item.tensor.name not in one.targets for one in group) for item in group[0].tensors)
        for item in group[0].tensors:
            tensor = item.tensor
            key = (item.file.path, tensor.name)
            here = [one.targets[tensor.name] for one in group if tensor.name in one.targets]
            for target in here:
                if target.computed or target.shape == tuple(tensor.shape):  # what has another one cannot be loaded
                    yield _Place(key, target)
            # PEFT moves a module that it copies under one more word, and may save both.
            moved = None if here else _moved_from(tensor, named)
            if moved is not None:
                yield _Place(key, direct(moved, named[moved].detach()))
            if not here and lost <= MOST:
                # A name that says nothing: what holds its values already could be taken for the place of it.
                for name in free.get(tuple(tensor.shape), ()):
                    yield _Place(key, direct(name, named[name].detach()), guessed=True)


def _moved_from(tensor: TensorInfo, named: Mapping[str, torch.Tensor]) -> str | None:
    """What the parameter of a module that PEFT keeps as ``original_module`` is called before that."""
    words = tensor.name.split(".")
    if "original_module" not in words:
        return None
    words.remove("original_module")
    names = (".".join(words[start:]) for start in range(len(words)))
    return next((name for name in names if name in named and named[name].shape == tensor.shape), None)


def owners(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """The parameter and buffer objects themselves: a view of them would keep memory alive that a load replaces."""
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def _of_target(
    key: Key, target: Target, named: Mapping[str, torch.Tensor], saved: Mapping[Index, torch.Tensor]
) -> Iterator[Spot]:
    """The spots of ``target``, by the parameters that they are in.

    What is ``computed`` from several of them shows a mark in any one.
    """
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


def _could_be_the_same(spot: Spot) -> bool:
    return all(item is not None and are_alike(spot.before, item) for item in spot.saved)


def _unravelled(owner: torch.Tensor, offset: int) -> Index:
    """The index of the element that lies ``offset`` elements behind the first one."""
    index = [0] * owner.dim()
    for dim in sorted(range(owner.dim()), key=owner.stride, reverse=True):
        if owner.stride(dim):
            index[dim], offset = divmod(offset, owner.stride(dim))
    return tuple(index)
