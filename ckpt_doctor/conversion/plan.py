"""From a torch file as it was read to the safetensors file that it becomes; refuses what cannot become one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ckpt_doctor.core.actions import SharedUse
from ckpt_doctor.core.defects import Defect, DefectKind
from ckpt_doctor.core.dtypes import DType
from ckpt_doctor.core.errors import ConversionError
from ckpt_doctor.core.nothing import NOTHING
from ckpt_doctor.core.weight_file import Record, TensorInfo, WeightFile
from ckpt_doctor.core.wording import counted, listed

from .aliases import settle
from .editing import NO_EDIT, PLAIN, Edit
from .header import METADATA, Entry, entry_of, header, in_order
from .outcome import AliasOutcome
from .plain import plain_object
from .slots import Content, Slot, slot_of
from .structure import Flattened, flatten

if TYPE_CHECKING:
    from ckpt_doctor.sources.source import Source

_CODES = {
    DefectKind.UNSAFE_GLOBAL: "CKD901",
    DefectKind.AMBIGUOUS_ARCHIVE: "CKD902",
    DefectKind.RESOURCE_BOMB: "CKD903",
    DefectKind.EXECUTABLE_ARCHIVE: "CKD904",
    DefectKind.PATH_ESCAPE: "CKD905",
    DefectKind.CHECKSUM: "CKD603",
}


@dataclass(frozen=True, slots=True)
class SafetensorsPlan:
    """What will be written, and what has to be said about it."""

    content: Content
    names: tuple[str, ...]
    aliases: tuple[AliasOutcome, ...]
    values: tuple[str, ...]
    dropped: tuple[str, ...]
    tensor_nbytes: int
    metadata: Mapping[str, str]


def refuse_defects(file: WeightFile, despite: Collection[DefectKind] = ()) -> None:
    """Raise ``ConversionError`` where anything is wrong with the file: damage must not look whole afterwards.

    Defects of the kinds in ``despite`` are what the caller deals with.
    """
    defects = [defect for defect in file.defects if defect.kind not in despite]
    if defects:
        # What endangers the reader comes before what is broken.
        worst = min(defects, key=_rank)
        code = _CODES.get(worst.kind)
        more = f" ({counted(len(defects) - 1, 'more problem')}: see `inspect`)" if len(defects) > 1 else ""
        raise ConversionError(f"it has errors{f' ({code})' if code else ''}: {worst.message.rstrip('.')}{more}")
    if not file.is_known and (not despite or not file.tensors):
        raise ConversionError(f"it holds no tensors: this is {file.content or 'of no known kind'}")


def _rank(defect: Defect) -> int:
    kinds = list(_CODES)
    return kinds.index(defect.kind) if defect.kind in _CODES else len(kinds)


def plan_safetensors(
    source: Source, file: WeightFile, *, shared: SharedUse, drop_non_tensors: bool, edit: Edit = NO_EDIT
) -> SafetensorsPlan:
    """Plan the safetensors file for a torch file that was read from ``source``. Raises ``ConversionError``."""
    refuse_defects(file, edit.despite)
    refuse_big_endian(file)
    found = Flattened()
    left_out: tuple[str, ...] = ()
    casts = edit.casts(file)
    if not edit.bare:  # of a damaged file nothing but the tensors themselves is kept
        root = read_root(source, file)
        if edit.plain and root is not PLAIN:
            plain = plain_object(root, file)
            file, root, drop_non_tensors = plain.file, plain.tree, True
            left_out = tuple(f"{name} ({what})" for name, what in plain.dropped.items())
        file, root = edit.of_file(file), edit.of_tree(root)
        if root is not PLAIN:
            found = flatten(root, [tensor.name for tensor in file.tensors], drop=drop_non_tensors)
    else:
        file = edit.of_file(file)
    refuse_absent(file)
    aliases = settle(file, shared)
    entries = in_order(entries_of([tensor for tensor in file.tensors if tensor.name not in aliases.removed], casts))
    # The order of save_model: what stands in the metadata already is not overwritten.
    metadata = {"format": "pt", **found.metadata}
    taken = [name for name in aliases.removed if name in metadata]
    if taken:
        raise ConversionError(f"{listed(taken)} cannot be dropped: its metadata needs that name. Use --shared clone")
    metadata.update(sorted(aliases.removed.items()))
    return SafetensorsPlan(
        content=Content(header(entries, metadata), slots_of(entries), records_of(file)),
        names=tuple(entry.tensor.name for entry in entries),
        aliases=tuple(aliases.outcomes),
        values=tuple(found.values),
        dropped=(*left_out, *found.dropped),
        tensor_nbytes=sum(entry.nbytes for entry in entries),
        metadata=metadata,
    )


def refuse_big_endian(file: WeightFile) -> None:
    """Raise for numbers that would have to be turned round."""
    if file.metadata is not None and file.metadata.get("byteorder") == "big":
        raise ConversionError("its numbers are stored big-endian: load and save it with torch first")


def read_root(source: Source, file: WeightFile, *, even_plain: bool = False) -> Any:
    """The object in a torch file, as nodes; :data:`PLAIN` for one dictionary of tensors, unless ``even_plain``.

    Raises ``ConversionError`` if there is none to be had.
    """
    from ckpt_doctor.formats.pickle_values import PickleError
    from ckpt_doctor.formats.torch_tree import read_tree

    if file.plain and not even_plain:
        return PLAIN  # reading the pickle once more would tell nothing new
    try:
        root = read_tree(source, file)
    except PickleError as problem:
        raise ConversionError(f"it changed while it was read: {problem}") from None
    if root is None:
        if file.tensors:
            raise ConversionError(
                "its records are compressed, which torch never does: load and save it with torch first"
            )
        raise ConversionError("it holds no tensors: the object in it is None")
    return root


def refuse_absent(file: WeightFile) -> None:
    """Raise for tensors whose bytes are not in the file as they are."""
    absent = [tensor for tensor in file.tensors if tensor.storage.offset is None and tensor.numel]
    if not absent:
        return
    names = listed(tensor.name for tensor in absent)
    if any(tensor.storage.record is not None for tensor in absent):
        raise ConversionError(f"the records of {names} are compressed: load and save it with torch first")
    raise ConversionError(f"the values of {names} were never stored (device {absent[0].storage.device})")


def entries_of(tensors: list[TensorInfo], casts: Mapping[str, DType] = NOTHING) -> list[Entry]:
    """How a safetensors header describes these tensors; those in ``casts`` have another dtype there.

    Raises ``ConversionError`` for what it cannot.
    """
    entries = []
    unknown: list[str] = []
    for tensor in tensors:
        entry = entry_of(tensor, casts.get(tensor.name))
        if entry is None:
            unknown.append(f"{tensor.name} ({tensor.dtype.name})")
        else:
            entries.append(entry)
    if unknown:
        raise ConversionError(f"safetensors has no dtype for {counted(len(unknown), 'tensor')}: {listed(unknown)}")
    if any(tensor.name == METADATA for tensor in tensors):
        raise ConversionError(f"a tensor is called {METADATA}, a name that safetensors reserves")
    return entries


def slots_of(entries: Iterable[Entry]) -> tuple[Slot, ...]:
    """Where the bytes of these entries come from. Raises ``ConversionError``."""
    return tuple(slot_of(entry.tensor, entry.cast) for entry in entries)


def records_of(file: WeightFile) -> tuple[Record, ...]:
    """The runs of a file that have a checksum."""
    return tuple(record for record in file.records if record.crc32 is not None and record.nbytes)
