"""Reading what ``torch.save`` wrote before torch 1.6, and pickles that torch did not write.

The legacy format is a sequence of pickles - a magic number, a protocol version, facts about the machine, the object,
the list of its storages' keys - and then for each key, in that order, the number of elements (8 bytes, little-endian)
and the bytes. torch executes each of these pickles; here each must be what torch writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ckpt_doctor.core.defects import Defect, DefectKind
from ckpt_doctor.core.weight_file import Storage, TensorInfo, WeightFile
from ckpt_doctor.core.wording import counted

from .limits import LIMITS, Limits
from .pickle_machine import Outcome, run
from .pickle_values import Budget, DictNode, StorageRef
from .torch_pickle import outcome_defects, walk
from .torch_tensors import describe

if TYPE_CHECKING:
    from ckpt_doctor.sources.source import Source

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001
LEGACY_ID = 6
"""Parts of a persistent id: ``storage``, type, key, device, number of elements, view."""

_FIRST_READ = 1 << 20
_SECOND_READ = 32 << 20  # enough for 200,000 tensors, whose pickle would otherwise be read several times
_LENGTH = 8  # bytes in front of each storage that count its elements


def read(source: Source, path: str, limits: Limits = LIMITS) -> WeightFile:
    """The weight file in ``source``, which begins with a pickle, or with anything else: see :class:`.reader.Reader`."""
    stream = PickleStream(source, limits)
    magic = stream.next()
    if magic.error is None and type(magic.root) is int and magic.root == MAGIC_NUMBER and not magic.called:
        return _Legacy(source, path, stream, magic).read()
    return _plain_pickle(source, path, stream, magic)


class PickleStream:
    """Pickles that follow each other, read from the beginning of a file in growing pieces."""

    def __init__(self, source: Source, limits: Limits = LIMITS) -> None:
        self.source = source
        self.limits = limits
        self.data = source.read_at(0, min(_FIRST_READ, limits.pickle))
        self.position = 0
        self.budget = Budget.for_stored(min(source.size, limits.pickle), limits)

    def next(self) -> Outcome:
        """Read the next pickle; the position is then behind it."""
        outcome = run(self.data, self.budget, self.position, self.source.size)
        while outcome.error is not None and outcome.error.kind is DefectKind.TORCH_TRUNCATED and self._grow():
            outcome = run(self.data, self.budget, self.position, self.source.size)
        self.position = outcome.end
        return outcome

    def _grow(self) -> bool:
        if len(self.data) >= min(self.source.size, self.limits.pickle):
            return False
        self.data = self.source.read_at(0, min(max(_SECOND_READ, 8 * len(self.data)), self.limits.pickle))
        return True


class _Legacy:
    """One file of the legacy format on its way to a :class:`WeightFile`."""

    def __init__(self, source: Source, path: str, stream: PickleStream, magic: Outcome) -> None:
        self.source = source
        self.path = path
        self.stream = stream
        self.outcomes = [magic]
        self.defects: list[Defect] = []
        self.metadata: dict[str, str] | None = None
        self.itemsizes: dict[str, int] = {}
        self.trailing = 0  # bytes behind the last storage
        self.short: dict[str, int] = {}  # how many bytes a storage has fewer than its tensors say
        self.offsets: dict[str, tuple[int, int]] = {}

    def read(self) -> WeightFile:
        root = self.objects()
        found, problem = walk(root, self.stream.budget)
        if problem is not None:
            self.defects.append(Defect(problem.kind, f"The pickle cannot be walked through: {problem}."))
        tensors: tuple[TensorInfo, ...] = ()
        if root is not None:
            self.lay_out()
            tensors, missing = describe(found, self.storage)
            self.defects += missing
            # Where a storage counts too few elements, its own bytes follow: that is said already.
            if self.trailing and self.trailing != sum(self.short.values()):
                message = f"{counted(self.trailing, 'byte')} follow the last storage."
                self.defects.append(Defect(DefectKind.AMBIGUOUS_ARCHIVE, message))
        return WeightFile(
            path=self.path,
            format="torch-legacy",
            nbytes=self.source.size,
            content="torch's format before 1.6",
            tensors=tensors,
            metadata=self.metadata,
            values=found.values,
            defects=(*outcome_defects(self.outcomes, None), *self.defects),
            plain=found.plain,
            refusals=tuple(refusal for outcome in self.outcomes for refusal in outcome.refusals),
            outside=tuple(found.outside),
        )

    def objects(self) -> Any:
        """Read the pickles up to the object that was saved, which is returned; ``None`` if there is none."""
        version = self.next()
        system = self.next()
        if version is not None and version.root != PROTOCOL_VERSION:
            self.invalid("the protocol version is not 1001, the only valid one")
        if system is not None and type(system.root) is DictNode:
            items = dict(zip(map(_plain, system.root.flat[0::2]), system.root.flat[1::2], strict=True))
            if items.get("little_endian") is False:
                self.metadata = {"byteorder": "big"}
        saved = self.next()
        return None if saved is None else saved.root

    def next(self) -> Outcome | None:
        """The next pickle, or ``None`` behind one that could not be read to its end."""
        if self.outcomes[-1].error is not None:
            return None
        outcome = self.stream.next()
        self.outcomes.append(outcome)
        return None if outcome.error is not None else outcome

    def invalid(self, what: str) -> None:
        self.defects.append(Defect(DefectKind.TORCH_TRUNCATED, f"The file is invalid: {what}."))

    def lay_out(self) -> None:
        """Read the list of keys, and find out where the bytes of each storage begin."""
        if any(outcome.id_lengths - {LEGACY_ID} for outcome in self.outcomes):
            self.invalid(f"the ids of its storages have not {LEGACY_ID} parts")
        outcome = self.next()
        if outcome is None:
            return
        keys = outcome.root
        if type(keys) is not list or not all(type(key) in (str, int) for key in keys):
            self.invalid("the list of storages is not a list")
            return
        for mentioned in self.outcomes:
            for key, dtype in mentioned.dtypes.items():
                self.itemsizes.setdefault(key, dtype.bits // 8)
        position = outcome.end
        for key in map(str, keys):
            raw = self.source.read_at(position, _LENGTH)
            # Its elements are as large as in its first mention. What lies behind one that is mentioned nowhere cannot
            # be found.
            itemsize = self.itemsizes.get(key)
            if len(raw) < _LENGTH or itemsize is None:
                break
            nbytes = int.from_bytes(raw, "little", signed=True) * itemsize
            if nbytes < 0 or key in self.offsets:
                self.invalid(f"storage {key[:100]} is listed twice, or has a negative length")
                break
            self.offsets[key] = position + _LENGTH, nbytes
            position += _LENGTH + nbytes
        else:
            self.trailing = max(0, self.source.size - position)

    def storage(self, reference: StorageRef) -> tuple[Storage, str | None]:
        """Where the bytes of a storage are, and why they are not there if they are not."""
        nbytes, device, start, key = reference.nbytes, reference.device, 0, reference.key
        lost: str | None = None
        if reference.view is not None:
            key, start, nbytes = reference.view
            if start < 0 or nbytes < 0 or start + nbytes > reference.nbytes:
                lost = f"view {key} ends at byte {start + nbytes:,} of {reference.nbytes:,} of storage {reference.key}"
                return Storage(key, max(nbytes, 0), None, device), lost
        offset, there = self.offsets.get(reference.key, (None, 0))
        if offset is None:
            # Where the list of storages could not be read, that is the defect.
            unread = device == "meta" or self.outcomes[-1].error is not None
            lost = None if unread else f"the bytes of storage {reference.key} are not in the file"
            return Storage(key, nbytes, None, device), lost
        if there != reference.nbytes:
            # torch refuses more bytes as well as fewer: "wrong byte size".
            lost = f"storage {reference.key} has {there:,} of {reference.nbytes:,} bytes"
            self.short[reference.key] = reference.nbytes - there
        elif offset + reference.nbytes > self.source.size:
            left = max(0, self.source.size - offset)
            lost = (
                f"the file ends in storage {reference.key}, of which {left:,} of {reference.nbytes:,} bytes are there"
            )
        return Storage(key, nbytes, None if lost else offset + start, device), lost


def _plain(key: Any) -> Any:
    return key if type(key) is str else None


def _plain_pickle(source: Source, path: str, stream: PickleStream, first: Outcome) -> WeightFile:
    """A pickle without torch's magic number: judged like any other, since somebody may load it."""
    outcomes = [first]
    # What follows is judged, too: a stream may hold several.
    while outcomes[-1].error is None and stream.position < source.size and len(outcomes) < stream.limits.pickles:
        outcomes.append(stream.next())
    complete = [outcome for outcome in outcomes if outcome.error is None]
    if complete and outcomes[-1].error is not None:
        # Bytes behind a complete pickle need not be another; only what they name counts.
        outcomes[-1] = Outcome(None, outcomes[-1].end, outcomes[-1].unsafe, None, True, outcomes[-1].called)
    found, problem = walk(first.root, stream.budget)
    defects = outcome_defects(outcomes, None)
    if problem is not None:
        defects.append(Defect(problem.kind, f"The pickle cannot be walked through: {problem}."))
    if complete and first.end < source.size:
        count = counted(source.size - first.end, "byte")
        defects.append(Defect(DefectKind.AMBIGUOUS_ARCHIVE, f"{count} follow the end of the pickle."))
    tensors, missing = describe(found, lambda reference: (Storage(reference.key, reference.nbytes, None), None))
    defects += missing
    truncated = first.error is not None
    if not truncated:
        defects.append(
            Defect(
                DefectKind.IMPOSTOR,
                "The file is a plain pickle, not written by torch.save: torch.load refuses it.",
                evidence={"values": len(found.values)},
            )
        )
    return WeightFile(
        path=path,
        format="unknown",
        nbytes=source.size,
        content="a pickle cut short" if truncated else "a plain pickle",
        tensors=tensors,
        values=found.values,
        defects=tuple(defects),
    )
