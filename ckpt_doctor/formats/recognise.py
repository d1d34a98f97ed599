"""Finding out what a file is from what it holds, and handing it to the reader of that format.

Names and extensions play no part for torch's files and safetensors: they say what a file was meant to be. For what is
of another kind they help: see ``other_kinds.py``.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ckpt_doctor.core.defects import Defect, DefectKind
from ckpt_doctor.core.weight_file import FileFormat, WeightFile
from ckpt_doctor.core.wording import byte_size, counted
from ckpt_doctor.sources.local_file import FileSource

from . import other_kinds, safetensors, signatures
from .limits import LIMITS, Limits

if TYPE_CHECKING:
    from ckpt_doctor.sources.source import Source

    from .reader import Reader

_BLOCK = 1 << 20
_ZERO_SAMPLES = 32
_SMALL = 1 << 20

# First bytes of pickles of protocol 0 and 1, which have no magic number: every opcode that needs nothing on the stack.
_PICKLE_STARTS = b"(]})cIJKMLGFNSTUVXBC\x88\x89\x8a\x8b\x8c\x8d\x8e\x95\x96P"

_OTHER_STARTS = b"\x80\x82\x83\x84\x8f"  # more first opcodes, which are no sign of a pickle or a sure one
_LONGEST_ARGUMENT = 9  # an opcode and its argument of fixed length, in bytes


def read_weight_file(path: Path, name: str, limits: Limits = LIMITS) -> WeightFile:
    """Read the headers of the file at ``path``; ``name`` is its path in the checkpoint, with ``/``.

    Never raises for what the file holds or for what the operating system says about it: both become defects.
    """
    try:
        with FileSource(path) as source, _without_collector():
            return other_kinds.unless_meant_for_torch(recognise(source, name, limits))
    except OSError as error:
        reason = error.strerror or str(error)
    except ValueError:  # what os.open says to a name with a zero byte in it
        reason = "no file can have this name"
    return WeightFile(
        path=name,
        format="unknown",
        nbytes=_size(path),
        content="unreadable",
        defects=(Defect(DefectKind.UNREADABLE, f"The file could not be read: {reason}."),),
    )


def recognise(source: Source, name: str, limits: Limits = LIMITS) -> WeightFile:
    """Read the headers of ``source``; see :func:`read_weight_file`. ``OSError`` from the source passes through."""
    if source.size == 0:
        return _refused(source, name, DefectKind.EMPTY, "nothing", "The file is empty (0 bytes).")
    head = source.read_at(0, signatures.HEAD)
    if head.startswith(b"PK\x03\x04") and name.endswith(".distcp"):
        return other_kinds.as_file(source.size, name, other_kinds.DISTRIBUTED)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x01\x02", b"PK\x07\x08")):
        file = other_kinds.unless_cut_elsewhere(_read("torch-zip", source, name, limits), head)
        return _with_other_claims(file, source, head)
    if _is_safetensors(head, source.size, limits):
        file = _with_other_claims(_read("safetensors", source, name, limits), source, head)
        return _with_pickle(file, source, head, limits)
    if signatures.is_lfs_pointer(head):
        return _lfs_pointer(source, name, head)
    found = signatures.container(head)
    if found and not other_kinds.is_named_like_torch(name):
        return other_kinds.as_file(source.size, name, other_kinds.archive(found))
    if found:
        message = f"The file is {found}. Weights are never stored that way, and this tool did not look inside."
        return _refused(source, name, DefectKind.EXECUTABLE_ARCHIVE, found, message)
    if _all_zero(source, head, limits):
        return _zeros(source, name, limits)
    if head[0] == 0x80:
        return _with_other_claims(_pickle(_read("torch-legacy", source, name, limits)), source, head)
    if signatures.ends_as_zip(source):
        return _read("torch-zip", source, name, limits)  # which also says what stands in front of the archive
    if head[0] in _PICKLE_STARTS:
        as_pickle = _read("torch-legacy", source, name, limits)
        if _is_pickle(as_pickle):
            return _pickle(as_pickle)
    other = other_kinds.recognise(source, head, name)
    if other is not None:
        return other_kinds.as_file(source.size, name, other)
    found = signatures.other_binary(head)
    if found:
        return _refused(source, name, DefectKind.IMPOSTOR, found, f"The file is {found}, not a file of weights.")
    return _impostor(source, name, head)


def _pickle(file: WeightFile) -> WeightFile:
    """A file that begins as a pickle: torch's, or one of another program, which is of another kind."""
    other = other_kinds.plain_pickle(file, file.path.rpartition("/")[2])
    return file if other is None else other_kinds.as_file(file.nbytes, file.path, other)._replace(tensors=file.tensors)


def _is_safetensors(head: bytes, size: int, limits: Limits) -> bool:
    """True if this was meant to be a safetensors file: the length of a header, then a JSON object."""
    if len(head) < 8:
        return False
    length = int.from_bytes(head[:8], "little")
    if length > limits.header:
        # A header that claims too much is still one. A pickle may hold any byte at that place, and so may a text.
        return head[8:9] == b"{" and head[0] != 0x80 and signatures.text_kind(head[:8]) is None
    if size == 8:
        return length > 0
    return length > 0 and head[8:].lstrip(b" \t\r\n").startswith(b"{")


def _with_other_claims(file: WeightFile, source: Source, head: bytes) -> WeightFile:
    """Add a defect where the bytes are at the same time an archive, which another program would open instead."""
    if file.has_defect(DefectKind.AMBIGUOUS_ARCHIVE):
        return file
    second = "a tar archive" if signatures.is_tar(head) else None
    if second is None and not head.startswith(b"PK") and signatures.ends_as_zip(source):
        second = "a zip archive"
    if second is None:
        return file
    message = f"The file is a {file.format} file and {second} at once: programs differ in which of the two they read."
    defect = Defect(DefectKind.AMBIGUOUS_ARCHIVE, message, evidence={"formats": [file.format, second]})
    return file._replace(defects=(*file.defects, defect))


def _with_pickle(file: WeightFile, source: Source, head: bytes, limits: Limits) -> WeightFile:
    """Add a defect where the bytes of a safetensors file are a pickle, too, that asks for what it must not have.

    The length of the header comes first, and its lowest byte may be any opcode. Mostly the machine stops at once.
    """
    if head[0] not in _PICKLE_STARTS and head[0] not in _OTHER_STARTS:
        return file
    from .pickle_machine import run
    from .pickle_values import Budget
    from .torch_pickle import unsafe_defect

    data = head
    limit = min(source.size, limits.second_format)
    budget = Budget.for_stored(limit, limits)
    outcome = run(data, budget, 0, source.size)
    while outcome.error is not None and outcome.end + _LONGEST_ARGUMENT > len(data) and len(data) < limit:
        data = source.read_at(0, min(limit, 16 * len(data)))
        outcome = run(data, budget, 0, source.size)
    # JSON and weights that are read as a name do not make one.
    unsafe = [use for use in outcome.unsafe if _is_importable(use.name)]
    if not unsafe:
        return file
    return file._replace(defects=(*file.defects, unsafe_defect(unsafe, None)))


def _is_pickle(file: WeightFile) -> bool:
    """True if what the pickle reader made of bytes without a magic number shows that they are a pickle.

    Almost any text begins like one. It is believed when it reads to its end, or when it got as far as a tensor or an
    object that could be imported: a loader would have run that before it noticed anything.
    """
    if not file.has_defect(DefectKind.TORCH_TRUNCATED):
        return True
    return bool(file.tensors) or file.has_defect(DefectKind.RESOURCE_BOMB) or any(map(_is_importable, _globals(file)))


def _globals(file: WeightFile) -> Iterator[str]:
    for defect in file.defects:
        if defect.kind is DefectKind.UNSAFE_GLOBAL:
            yield from (str(entry["name"]) for entry in defect.evidence.get("globals", ()))


def _is_importable(name: str) -> bool:
    return all(word.isidentifier() for word in name.replace(" ", ".").split("."))


def _read(format: FileFormat, source: Source, name: str, limits: Limits) -> WeightFile:
    """Hand the file to the reader of this format."""
    return _READERS[format]()(source, name, limits)


def _torch_zip() -> Reader:
    from . import torch_zip  # only where needed: a safetensors checkpoint starts faster without the pickle machine

    return torch_zip.read


def _torch_legacy() -> Reader:
    from . import torch_legacy

    return torch_legacy.read


_READERS: Mapping[FileFormat, Callable[[], Reader]] = {
    "safetensors": lambda: safetensors.read,
    "torch-zip": _torch_zip,
    "torch-legacy": _torch_legacy,
}
"""By format, what gives its reader: see ``reader.py``. An archive turns out to be TorchScript while it is read."""


def _all_zero(source: Source, head: bytes, limits: Limits) -> bool:
    """True if the file is nothing but zero bytes: exactly for small files, by samples for large ones."""
    if any(head):
        return False
    zeros = bytes(_BLOCK)
    if source.size <= limits.exact_zeros:
        offsets: Iterator[int] = iter(range(0, source.size, _BLOCK))
    else:
        last = source.size - _BLOCK
        offsets = (last * sample // (_ZERO_SAMPLES - 1) for sample in range(_ZERO_SAMPLES))
    for offset in offsets:
        block = source.read_at(offset, _BLOCK)
        if block != zeros[: len(block)]:
            return False
    return True


def _zeros(source: Source, name: str, limits: Limits) -> WeightFile:
    exact = source.size <= limits.exact_zeros
    message = (
        f"All {counted(source.size, 'byte')} of the file are zero."
        if exact
        else f"The file ({byte_size(source.size)}) is zero in its first and last megabyte and "
        f"{_ZERO_SAMPLES - 2} more spread over it."
    )
    return _refused(source, name, DefectKind.EMPTY, "zero bytes", message)


def _lfs_pointer(source: Source, name: str, head: bytes) -> WeightFile:
    fields = signatures.lfs_fields(head)
    size = fields.get("size", "")
    weights = f"{int(size):,} bytes of weights" if size.isdecimal() and len(size) < 20 else "the weights"
    message = f"The file is a git-lfs pointer ({counted(source.size, 'byte')}): {weights} were never downloaded."
    return _refused(source, name, DefectKind.LFS_POINTER, "a git-lfs pointer", message, **fields)


def _impostor(source: Source, name: str, head: bytes) -> WeightFile:
    kind = signatures.text_kind(head)
    if kind:
        start = signatures.excerpt(head)
        message = f"The file holds {kind}, not weights; it begins with: {start}"
        if not message.endswith((".", "!", "?")):
            message += "."
        return _refused(source, name, DefectKind.IMPOSTOR, kind, message, begins=start)
    zeros = _leading_zeros(source, head)
    if zeros:
        message = f"The file begins with {counted(zeros, 'zero byte')} instead of its header."
        return _refused(source, name, DefectKind.IMPOSTOR, "unknown", message, zero_bytes=zeros)
    message = f"The content is of no known kind; the first bytes are {head[:8].hex(' ')}."
    return _refused(source, name, DefectKind.IMPOSTOR, "unknown", message, begins=head[:8].hex())


def _leading_zeros(source: Source, head: bytes) -> int:
    """How many zero bytes the file begins with, at most those of its first megabyte; 0 if ``head`` has others."""
    if any(head[:16]):
        return 0
    start = source.read_at(0, _SMALL)
    return len(start) - len(start.lstrip(b"\0"))


def _refused(
    source: Source, name: str, kind: DefectKind, content: str, message: str, **evidence: str | int
) -> WeightFile:
    return WeightFile(
        path=name,
        format="unknown",
        nbytes=source.size,
        content=content,
        defects=(Defect(kind, message, evidence=evidence),),
    )


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except (OSError, ValueError):
        return 0


@contextmanager
def _without_collector() -> Iterator[None]:
    """Switch off the cyclic garbage collector: a header of 100,000 tensors makes a million objects and no cycles.

    Looking through them again and again takes a third of the time.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
