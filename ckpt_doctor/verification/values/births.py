"""Marks in the parameters that are made during a load: by PEFT, by ``from_pretrained``, by a user's factory.

Such a parameter begins with zeros, ones or another number that nothing had to be read for. A checkpoint that holds the
same values would count as loaded, whether anybody read it or not. So while the load runs, what torch makes out of
nothing is followed, and as soon as a model has it as a parameter or a buffer, up to three of its elements are set to
numbers that no two tensors share. Who loads afterwards writes over them, by whatever means; what still holds them at
the end was not loaded. Only tensors of a shape that the checkpoint has are touched, and random ones need no mark.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from .elements import Index, can_be_marked, indices

if TYPE_CHECKING:
    import torch
    from torch import nn

_CONSTANT = frozenset(("zeros", "ones", "full", "new_zeros", "new_ones", "new_full"))
_CONSTANT_LIKE = frozenset(("zeros_like", "ones_like", "full_like"))
_COUNTED = frozenset(("arange", "linspace", "logspace", "eye"))
# A mode is told of `constant_` and not of the `fill_` inside of it.
_FILLS = frozenset(("zero_", "fill_", "constant_"))
# What hands out the memory itself: whoever has it may write there unseen.
_ESCAPES = frozenset(("numpy", "__array__", "data_ptr", "untyped_storage", "__dlpack__", "storage"))

_COUNTER = 987_654_321  # exact in int64, and no number of batches that anybody trains
_EXACT = 128  # numbers with a sign and seven bits, which survive a cast to bfloat16

Signature = tuple[tuple[int, ...], tuple[float, ...]]


class _Birth(NamedTuple):
    """The values at the marked places of a tensor, in the order of its sorted indices."""

    before: tuple[float, ...]


class _Made(NamedTuple):
    """A storage that holds what was made out of nothing; ``plain`` means by one call, without arithmetic."""

    storage: Any
    plain: bool


class Births:
    """The parameters and buffers of one load that began with values made out of nothing."""

    def __init__(self, shapes: Iterable[tuple[int, ...]]) -> None:
        self._shapes = frozenset(shapes)
        self._made: dict[int, _Made] = {}
        self._registered: dict[int, Any] = {}
        self._births: dict[Signature, _Birth] = {}

    @contextmanager
    def watched(self, model: nn.Module | None = None) -> Iterator[None]:
        """Within this block whatever becomes a parameter or a buffer is marked; those of ``model`` are known."""
        from torch.nn.modules import module as hooks

        for tensor in (*model.parameters(), *model.buffers()) if model is not None else ():
            self._register(tensor)
        handles = (
            hooks.register_module_parameter_registration_hook(self._parameter),
            hooks.register_module_buffer_registration_hook(self._buffer),
        )
        try:
            with _mode(self._seen):
                yield
        finally:
            for handle in handles:
                handle.remove()
            self._made.clear()
            self._registered.clear()

    def untouched(self, tensor: torch.Tensor) -> bool:
        """True if the tensor still holds its marks."""
        return self._birth(tensor) is not None

    def lift(self, tensors: Iterable[torch.Tensor]) -> None:
        """Put back what stood under the marks in those of the ``tensors`` that still hold them."""
        if not self._births:
            return
        for tensor in tensors:
            birth = self._birth(tensor)
            if birth is not None:
                _write(tensor, birth.before)

    def _parameter(self, _: Any, __: str, tensor: Any) -> None:
        self._begins(tensor, plain=False)

    def _buffer(self, _: Any, __: str, tensor: Any) -> None:
        # A table that was computed is likely to be read while the model is still being made.
        self._begins(tensor, plain=True)

    def _begins(self, tensor: Any, *, plain: bool) -> None:
        import torch

        with torch._C.DisableTorchFunction():  # what is done here is none of the load's calls
            storage = self._register(tensor)
            made = self._made.get(storage) if storage is not None else None
            if made is not None and (made.plain or not plain):
                self._mark(tensor)

    def _register(self, tensor: Any) -> int | None:
        storage = _storage(tensor)
        if storage is not None and storage not in self._registered:
            self._registered[storage] = _held(tensor)
        return storage

    def _seen(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Follow one call of torch, after it was made."""
        if not args:  # the functions of nn.init pass their arguments on by name
            args = tuple(kwargs.values())
        if name in _CONSTANT or name in _CONSTANT_LIKE or name in _COUNTED:
            self._note(result, plain=name not in _COUNTED)
        elif name in _FILLS:
            self._filled(args[0] if args else None)
        elif name == "copy_" and args:
            self._copied(args)
        elif name in _ESCAPES:
            self._forget(args[0] if args else None)
        elif name == "__setitem__" or (name.endswith("_") and not name.startswith("__")):
            self._changed(name, args)
        else:
            self._computed(args, kwargs, result)

    def _filled(self, tensor: Any) -> None:
        # A number alone may well be one that was read from a file, unless it is a count that starts again.
        if not _is_whole(tensor) or (tensor.numel() == 1 and tensor.is_floating_point()):
            return
        self._note(tensor, plain=True)
        self._mark_if_known(tensor)

    def _copied(self, args: tuple[Any, ...]) -> None:
        if len(args) > 1 and self._is_made(args[1]) and _is_whole(args[0]):
            self._note(args[0], plain=False)
            self._mark_if_known(args[0])
        else:
            self._forget(args[0])

    def _changed(self, name: str, args: tuple[Any, ...]) -> None:
        # These say nothing about values.
        if not args or name in ("requires_grad_", "detach_"):
            return
        given = _tensors(args[1:])
        if name != "__setitem__" or not given or not all(map(self._is_made, given)):
            self._forget(args[0])

    def _computed(self, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        given = [*_tensors(args), *_tensors(kwargs.values())]
        if given and self._made and all(map(self._is_made, given)):
            for tensor in _tensors((result,)):
                if not self._is_made(tensor):
                    self._note(tensor, plain=False)

    def _is_made(self, tensor: Any) -> bool:
        return _storage(tensor) in self._made

    def _note(self, tensor: Any, *, plain: bool) -> None:
        storage = _storage(tensor)
        if storage is not None:
            self._made[storage] = _Made(_held(tensor), plain)

    def _forget(self, tensor: Any) -> None:
        storage = _storage(tensor)
        if storage is not None:
            self._made.pop(storage, None)

    def _mark_if_known(self, tensor: torch.Tensor) -> None:
        import torch

        if isinstance(tensor, torch.nn.Parameter) or _storage(tensor) in self._registered:
            self._mark(tensor)

    def _mark(self, tensor: torch.Tensor) -> None:
        import torch

        if not self._may_hold_marks(tensor) or self._birth(tensor):
            return
        shape = tuple(tensor.shape)
        places = _places(shape)
        counter = tensor.dtype is torch.int64
        numbers = (float(_COUNTER),) if counter else _numbers(len(self._births), len(places))
        self._births[shape, numbers] = _Birth(_values(tensor, places))
        _write(tensor, numbers)

    def _birth(self, tensor: torch.Tensor) -> _Birth | None:
        if not self._births or not self._may_hold_marks(tensor):
            return None
        shape = tuple(tensor.shape)
        return self._births.get((shape, _values(tensor, _places(shape))))

    def _may_hold_marks(self, tensor: torch.Tensor) -> bool:
        """True if the checkpoint has this shape, and the dtype holds the numbers exactly."""
        import torch

        shape = tuple(tensor.shape)
        counter = tensor.dtype is torch.int64 and not shape
        exact = tensor.is_floating_point() and tensor.element_size() > 1
        return shape in self._shapes and can_be_marked(tensor) and (counter or exact)


def _mode(seen: Any) -> Any:
    from torch.overrides import TorchFunctionMode

    class Following(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            seen(getattr(func, "__name__", ""), args, kwargs or {}, result)
            return result

    return Following()


def _tensors(values: Iterable[Any]) -> list[torch.Tensor]:
    """The tensors among the arguments of a call, also in a list of them."""
    import torch

    flat = [item for value in values for item in (value if isinstance(value, (list, tuple)) else (value,))]
    return [item for item in flat if isinstance(item, torch.Tensor)]


def _storage(tensor: Any) -> int | None:
    """What tells the storage of a tensor from every other one; ``None`` if it has no memory to be followed."""
    import torch

    if not isinstance(tensor, torch.Tensor) or not can_be_marked(tensor):
        return None
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):  # a tensor of a class with ideas of its own
        return None


def _held(tensor: torch.Tensor) -> Any:
    """A weak reference: while it is there, no other storage gets the same number."""
    from torch.multiprocessing import reductions

    weakly: Any = reductions.StorageWeakRef
    return weakly(tensor.untyped_storage())


def _is_whole(tensor: Any) -> bool:
    """True if the tensor is all of its storage, and no row of it."""
    if _storage(tensor) is None:
        return False
    return bool(tensor.numel() * tensor.element_size() == tensor.untyped_storage().nbytes())


def _places(shape: tuple[int, ...]) -> list[Index]:
    return sorted(indices(shape))


def _numbers(number: int, count: int) -> tuple[float, ...]:
    """As many numbers as are asked for, which together are those of this ``number`` alone."""
    found = []
    for _ in range(count):
        number, digit = divmod(number, _EXACT)
        found.append((129 + digit // 2 * 2) / (256 if digit % 2 else -256))
    return tuple(found)


def _values(tensor: torch.Tensor, places: list[Index]) -> tuple[float, ...]:
    import torch

    with torch.no_grad():
        return tuple(float(tensor.data[place].item()) for place in places)


def _write(tensor: torch.Tensor, numbers: tuple[float, ...]) -> None:
    import torch

    with torch.inference_mode(tensor.is_inference()), torch.no_grad():
        for place, number in zip(_places(tuple(tensor.shape)), numbers, strict=True):
            tensor.data[place].fill_(number if tensor.is_floating_point() else int(number))
