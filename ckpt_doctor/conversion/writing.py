"""Writing one new file into its temporary, comparing it with its source, and getting it onto the disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from ckpt_doctor.core.errors import ConversionError
from ckpt_doctor.core.weight_file import Record
from ckpt_doctor.sources.local_file import FileSource

from .checking import compare
from .copying import Copier, read_exactly, write_all, write_slots
from .opened import Opened
from .outcome import ConvertedFile
from .slots import Content, Slot
from .staging import Staged

if TYPE_CHECKING:
    from .to_bin import BinPlan

Advance = Callable[[int], None]
"""Told how many more bytes were written or compared."""


def write(item: Opened, staged: Staged, advance: Advance, *, check: bool) -> ConvertedFile | None:
    """Write what ``item`` becomes; ``None`` for a file that is copied as it is.

    When this returns, the bytes are on the disk. Raises ``ConversionError`` and ``OSError``.
    """
    if item.torch_plan is not None:
        return _write_torch(item, item.torch_plan, staged, advance, check=check)
    assert item.content is not None, "one of the two is there"
    write_content(item.descriptor, item.content, staged.descriptor, advance, check=check)
    if item.plan is None:
        return None
    return ConvertedFile(
        source=str(item.job.source),
        target=str(item.job.target),
        nbytes=item.content.nbytes,
        tensor_count=len(item.plan.names),
        aliases=item.plan.aliases,
        values=item.plan.values,
        dropped=item.plan.dropped,
    )


def write_content(source: int, content: Content, target: int, advance: Advance, *, check: bool) -> None:
    """Write ``content`` of the open file ``source`` into the empty open file ``target``, and sync it.

    Raises ``ConversionError`` and ``OSError``.
    """
    header = content.header
    write_all(target, header)
    advance(len(header))
    write_slots(content.slots, Copier(source, target), gathered, advance)
    if not check:
        os.fsync(target)
        return
    whole = os.fstat(target).st_size == content.nbytes
    if not whole or read_exactly(target, 0, len(header)) != header:
        raise ConversionError("its header or size differs from what was written: the disk or the memory is faulty")
    advance(len(header))
    positions = accumulate((slot.nbytes for slot in content.slots), initial=len(header))
    compare(
        source,
        target,
        zip(content.slots, positions, strict=False),
        content.records,
        gathered,
        advance,
        # The disk takes its time; meanwhile the pages are compared.
        beside=lambda: os.fsync(target),
    )


def _write_torch(item: Opened, plan: BinPlan, staged: Staged, advance: Advance, *, check: bool) -> ConvertedFile:
    from .to_bin import left_out

    write_torch(item.descriptor, plan, (), staged.descriptor, staged.temporary, advance, check=check)
    return ConvertedFile(
        source=str(item.job.source),
        target=str(item.job.target),
        nbytes=plan.nbytes,
        tensor_count=len(plan.tensors),
        dropped=tuple(f"metadata {name}" for name in left_out(item.file)),
    )


def write_torch(
    source: int,
    plan: BinPlan,
    records: Sequence[Record],
    target: int,
    path: Path,
    advance: Advance,
    *,
    check: bool,
) -> None:
    """Write ``plan`` from the open file ``source`` into the empty open file ``target`` at ``path``, and sync it.

    ``records`` are runs of the source whose checksums must be right. Raises ``ConversionError`` and ``OSError``.
    """
    from .to_bin import write_bin, written_storages

    write_bin(plan, source, target, gathered, advance)
    if not check:
        os.fsync(target)
        return
    with FileSource(path) as written:
        placed = written_storages(plan, written)
    # The disk takes its time; meanwhile the pages are compared.
    compare(source, target, placed, records, gathered, advance, beside=lambda: os.fsync(target))


def gathered(descriptor: int, slot: Slot) -> Iterable[memoryview]:
    """The bytes of a slot that are made of its ``view``: see :func:`~ckpt_doctor.scanning.gather.gather` and
    :func:`.casting.cast`.
    """
    # numpy: only where bytes are not copied as they are
    from ckpt_doctor.scanning.gather import gather

    from .casting import cast

    assert slot.view is not None, "its bytes lie in one run"
    if slot.cast is not None:
        return cast(descriptor, slot.view, slot.cast)
    return gather(partial(read_exactly, descriptor), slot.view)
