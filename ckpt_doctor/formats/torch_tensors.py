"""From tensors as a pickle describes them to :class:`TensorInfo`, checked against the bytes that are there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import mul
from typing import Any

from ckpt_doctor.core.defects import Defect, DefectKind
from ckpt_doctor.core.weight_file import Storage, TensorInfo
from ckpt_doctor.core.wording import counted

from .pickle_values import StorageRef, TensorNode, clipped
from .pickle_walk import Harvest

MAX_DIMS = 64
"""Torch itself allows 64 dimensions in a tensor's description."""

_WHOLE = frozenset({int})

Resolver = Callable[[StorageRef], tuple[Storage, str | None]]
"""Gives the storage of a reference, and what is wrong with its bytes if anything is."""


class _Problem:
    """Tensors for which the same thing is wrong, and the first example of it."""

    def __init__(self, example: str) -> None:
        self.example = example
        self.names: list[str] = []


def describe(found: Harvest, resolve: Resolver) -> tuple[tuple[TensorInfo, ...], tuple[Defect, ...]]:
    """The tensors of a file, and what is missing of their storages. What cannot be described is not listed."""
    tensors: list[TensorInfo] = []
    problems: dict[str, _Problem] = {}
    resolved: dict[str, tuple[StorageRef, Storage, str | None]] = {}

    def note(kind: str, name: str, example: str) -> None:
        problems.setdefault(kind, _Problem(example)).names.append(name)

    for name in found.broken:
        note("description", name, f"{name} has arguments that do not describe a tensor")
    for index, (name, path, node) in enumerate(found.tensors):
        wrong = _nonsense(node)
        if wrong:
            note("description", name, f"{name} {wrong}")
            continue
        reference = node.storage
        if reference is None:
            storage = Storage(f"meta:{index}", 0, None, "meta")
        else:
            key = reference.key if reference.view is None else reference.view[0]
            known = resolved.get(key)
            if known is None:
                storage, lost = resolve(reference)
                resolved[key] = (reference, storage, lost)
            else:
                storage, lost = known[1], known[2]
                if reference.nbytes != known[0].nbytes:
                    sizes = f"{known[0].nbytes:,} and {reference.nbytes:,}"
                    note("size", name, f"storage {key} is declared with both {sizes} bytes")
            if lost is not None:
                note("storage", name, lost)
            if 0 not in node.shape:
                last = node.offset + sum(map(mul, node.shape, node.stride)) - sum(node.stride)
                end = node.dtype.nbytes(last + 1)
                if end > storage.nbytes:
                    note("extent", name, f"{name} reaches to byte {end:,} of a storage of {storage.nbytes:,} bytes")
                    # What stands there belongs to something else: nobody may take it for this tensor.
                    storage = Storage(storage.key, storage.nbytes, None, storage.device, storage.record, storage.crc32)
        tensors.append(
            TensorInfo(
                *(name, node.dtype, node.shape, node.stride, storage, node.offset, node.requires_grad, path),
                node.pending,
            )
        )
    return tuple(tensors), tuple(_defect(problem) for problem in problems.values())


def _nonsense(node: TensorNode) -> str | None:
    """What no tensor can be: said so that it can follow the tensor's name."""
    shape, stride = node.shape, node.stride
    if type(shape) is not tuple or type(stride) is not tuple:
        return "has a shape or strides that are not tuples"
    if len(shape) != len(stride) or len(shape) > MAX_DIMS:
        return f"has {len(shape):,} dimensions and {len(stride):,} strides"
    numbers = (*shape, *stride, node.offset)
    if not _WHOLE.issuperset(map(type, numbers)):
        return "has a shape, strides or an offset that are not whole numbers"
    if min(numbers) < 0 or max(numbers) >= 1 << 63:
        return (
            f"has the shape {_numbers(shape)}, the strides {_numbers(stride)} and the offset {_numbers((node.offset,))}"
        )
    if node.storage is not None and not 0 <= node.storage.nbytes < 1 << 63:
        return f"lies in a storage of {_numbers((node.storage.nbytes,))} bytes"
    return None


def _numbers(numbers: Sequence[Any]) -> str:
    """Numbers that a file made up, which may have thousands of digits."""
    shown = [str(n) if n.bit_length() <= 64 else f"{'-' if n < 0 else ''}2**{n.bit_length()}" for n in numbers[:8]]
    return "[" + ", ".join(shown) + (", ...]" if len(numbers) > 8 else "]")


def _defect(problem: _Problem) -> Defect:
    names = problem.names
    more = f" (and {counted(len(names) - 1, 'more tensor')} like it)" if len(names) > 1 else ""
    return Defect(
        DefectKind.STORAGE_MISSING,
        f"{clipped(problem.example)}{more}.",
        tensors=tuple(names),
        evidence={"tensor_count": len(names)},
    )
