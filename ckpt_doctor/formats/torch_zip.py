"""Reading ``torch.save`` archives (torch 1.6 and later): a zip with ``data.pkl`` and one member for each storage.

The members are ``<folder>/data.pkl``, ``<folder>/data/<key>``, ``<folder>/version`` and, by release, ``byteorder``,
``.format_version``, ``.storage_alignment`` and ``.data/serialization_id``. torch takes the folder from the first
member, and compares names without regard to case (``PyTorchStreamReader`` in ``caffe2/serialize``).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ckpt_doctor.core.defects import Defect, DefectKind
from ckpt_doctor.core.weight_file import Record, Storage, TensorInfo, WeightFile
from ckpt_doctor.core.wording import byte_size, listed

from . import other_kinds
from .limits import LIMITS, Limits
from .pickle_machine import Outcome, run
from .pickle_modules import Classes, script_classes
from .pickle_values import Budget, PickleError, StorageRef, clipped
from .torch_pickle import PickleReading, of_script, outcome_defects, read_pickle
from .torch_tensors import describe
from .zip_directory import DEFLATED, STORED, Directory, Member, read_directory

if TYPE_CHECKING:
    from ckpt_doctor.sources.source import Source


def read(source: Source, path: str, limits: Limits = LIMITS) -> WeightFile:
    """The weight file in ``source``, which begins or ends as a zip archive.

    What it holds becomes defects, never an exception; an ``OSError`` of the source passes through.
    """
    directory = read_directory(source, limits)
    if directory.members is None:
        from .torch_salvage import read_without_directory  # whole files start without it

        return read_without_directory(source, path, directory.oddities, limits)
    return _Archive(source, path, directory, directory.members, limits).read()


class _Archive:
    """One archive on its way to a :class:`WeightFile`."""

    def __init__(self, source: Source, path: str, directory: Directory, members: list[Member], limits: Limits) -> None:
        self.source = source
        self.limits = limits
        self.path = path
        self.members = members
        self.defects: list[Defect] = []
        self.oddities = directory.oddities
        self.holes = directory.holes
        self.lost: set[str] = set()  # members whose bytes are missing, which is said of the tensors in them
        self.by_name: dict[str, Member] = {}
        self.folder = ""
        self.classes: Classes | None = None  # of a TorchScript archive
        for member in members:
            # The first of two, as torch does; the oddity says that there is another.
            if self.by_name.setdefault(_folded(member.name), member) is not member:
                directory.odd(f"it has two members called {member.name}")

    def read(self) -> WeightFile:
        self.check_names()
        pickles = [member for name, member in self.by_name.items() if name.rpartition("/")[2] == "data.pkl"]
        folder = self.members[0].name.partition("/")[0] if self.members else ""
        main = self.by_name.get(_folded(f"{folder}/data.pkl")) or next(iter(pickles), None)
        if main is None:
            return self.finish(None, f"a zip archive of {len(self.members)} members without data.pkl")
        if len(pickles) > 1:
            self.oddities.append(f"it has several pickles: {clipped(listed(member.name for member in pickles))}")
        self.folder = main.name.rpartition("/")[0]
        if self.is_script():
            self.classes = self.script_classes()
            return self.finish(main, "a TorchScript archive")
        return self.finish(main, "a torch archive")

    def is_script(self) -> bool:
        """Whether the folder of the pickle also holds what only ``torch.jit.save`` writes."""
        prefix = _folded(f"{self.folder}/")
        return f"{prefix}constants.pkl" in self.by_name or any(
            name.startswith(f"{prefix}code/") for name in self.by_name
        )

    def script_classes(self) -> Classes:
        """What the source in the archive says about its classes, as text."""
        prefix = _folded(f"{self.folder}/code/")
        found: dict[str, frozenset[str]] = {}
        left = self.limits.script_code
        for name, member in self.by_name.items():
            if not name.startswith(prefix) or not name.endswith(".py") or member.offset is None:
                continue
            left -= max(member.nbytes, member.stored)
            if left < 0:
                break
            module = member.name[len(prefix) : -len(".py")].replace("/", ".")
            text = self.beginning(member, member.nbytes).decode("utf-8", "replace")
            found.update(script_classes(module, text))
        return found

    def check_names(self) -> None:
        names = [member.name for member in self.members]
        escaping = [clipped(name, 100) for name in names if _escapes(name)]
        if escaping:
            message = f"Members have paths that lead out of the archive: {listed(escaping)}."
            self.defects.append(Defect(DefectKind.PATH_ESCAPE, message, evidence={"names": escaping[:20]}))
        # The folder itself may be called "code": torch.save names it after the file.
        code = [
            clipped(member.name, 100)
            for name, member in self.by_name.items()
            if name.partition("/")[2].startswith(("constants.pkl", "code/")) or name == "constants.pkl"
        ]
        if code:
            message = f"The archive is a TorchScript program, whose code runs with the model: it has {listed(code)}."
            evidence = {"kind": "torchscript", "members": code[:20]}
            self.defects.append(Defect(DefectKind.EXECUTABLE_ARCHIVE, message, evidence=evidence))

    def finish(self, main: Member | None, content: str) -> WeightFile:
        reading = PickleReading()
        tensors: tuple[TensorInfo, ...] = ()
        outside: tuple[str, ...] = ()
        metadata = None
        if main is None:
            if not self.defects:
                other = other_kinds.of_archive([member.name for member in self.members])
                if other is not None:
                    return other_kinds.as_file(self.source.size, self.path, other)
                message = f"The file is {content}: not written by torch.save."
                self.defects.append(Defect(DefectKind.IMPOSTOR, message, evidence={"members": len(self.members)}))
        else:
            reading = self.pickle(main)
            outside = tuple(reading.harvest.outside)
            tensors, missing = describe(reading.harvest, partial(self.storage, "data"))
            self.defects += missing
            if self.classes is not None:
                tensors, outside = self.with_constants(tensors, outside)
            if reading.id_lengths - {ZIP_ID}:
                self.refused_by_torch(f"the ids of its storages have not {ZIP_ID} parts")
            self.other_pickles(main)
            self.check_version()
            metadata = self.byteorder()
        for name, sentences in self.holes.items():
            if name not in self.lost:
                self.oddities += sentences
        if self.oddities:
            message = f"The archive is ambiguous: {'; '.join(self.oddities[:3])}."
            self.defects.append(
                Defect(DefectKind.AMBIGUOUS_ARCHIVE, message, evidence={"oddities": list(self.oddities)})
            )
        script = self.classes is not None
        return WeightFile(
            path=self.path,
            format="unknown" if main is None else "torchscript" if script else "torch-zip",
            nbytes=self.source.size,
            content=content,
            tensors=tensors,
            metadata=metadata,
            values=reading.harvest.values,
            records=self.records(),
            plain=reading.harvest.plain,
            defects=(*reading.defects, *self.defects),
            # torch refuses the archive as such, whatever the pickle names.
            refusals=() if script else reading.refusals,
            outside=outside,
        )

    def with_constants(
        self, tensors: tuple[TensorInfo, ...], outside: tuple[str, ...]
    ) -> tuple[tuple[TensorInfo, ...], tuple[str, ...]]:
        """The tensors of a TorchScript archive with its constants, which its code calls ``CONSTANTS.c0`` and so on."""
        member = self.by_name.get(_folded(f"{self.folder}/constants.pkl"))
        if member is None:
            return tensors, outside
        reading = self.pickle(member)
        self.defects += reading.defects
        found = reading.harvest
        names = {name: f"CONSTANTS.c{name}" for name, _, _ in found.tensors}
        found.tensors = [(names[name], (names[name],), node) for name, _, node in found.tensors]
        constants, missing = describe(found, partial(self.storage, "constants"))
        self.defects += missing
        return (*tensors, *constants), (*outside, *(tensor.name for tensor in constants))

    def pickle(self, member: Member) -> PickleReading:
        """Read ``member`` as a pickle, after its checksum."""
        budget = Budget.for_stored(min(member.stored, self.source.size), self.limits)
        try:
            data = self.content(member)
        except PickleError as problem:
            return PickleReading(defects=[Defect(problem.kind, f"{clipped(member.name)}: {problem}.")])
        reading = read_pickle(data, budget, clipped(member.name), self.classes)
        if member.crc32:
            from zlib import crc32

            actual = crc32(data)
            if actual != member.crc32:
                message = (
                    f"The checksum of {clipped(member.name)} is {actual:08x}, the archive says {member.crc32:08x}."
                )
                reading.defects.append(Defect(DefectKind.CHECKSUM, message))
        return reading

    def content(self, member: Member) -> bytes:
        """The bytes of a member, inflated. Raises :class:`PickleError` where they are too many, or not there."""
        if member.offset is None or member.offset + member.stored > self.source.size:
            raise PickleError(DefectKind.TORCH_TRUNCATED, "its bytes are not all there")
        limit = min(self.limits.pickle, max(self.limits.inflated, self.limits.inflation * member.stored))
        if max(member.nbytes, member.stored) > limit:
            size = byte_size(max(member.nbytes, member.stored))
            raise PickleError(
                DefectKind.RESOURCE_BOMB, f"it takes {size}, of which {byte_size(member.stored)} are stored"
            )
        raw = self.source.read_at(member.offset, member.stored)
        if member.method == STORED:
            if member.stored != member.nbytes:
                self.oddities.append(f"member {member.name} is stored as it is, with two different lengths")
            return raw
        if member.method != DEFLATED:
            raise PickleError(
                DefectKind.AMBIGUOUS_ARCHIVE, f"compression method {member.method} is none that torch reads"
            )
        import zlib

        inflater = zlib.decompressobj(-15)
        try:
            data = inflater.decompress(raw, limit)
        except zlib.error as error:
            raise PickleError(DefectKind.TORCH_TRUNCATED, f"it cannot be inflated ({error})") from None
        if inflater.unconsumed_tail:
            raise PickleError(DefectKind.RESOURCE_BOMB, f"{len(raw):,} bytes inflate to more than {byte_size(limit)}")
        if len(data) != member.nbytes or not inflater.eof:
            raise PickleError(DefectKind.TORCH_TRUNCATED, f"it inflates to {len(data):,} of {member.nbytes:,} bytes")
        return data

    def storage(self, folder: str, reference: StorageRef) -> tuple[Storage, str | None]:
        """The storage in the member ``<folder>/<key>``, and why its bytes are not there if they are not."""
        nbytes = reference.nbytes
        name = f"{self.folder}/{folder}/{reference.key}"
        member = self.by_name.get(_folded(name))
        if folder != "data":
            reference = StorageRef(f"{folder}/{reference.key}", reference.dtype, nbytes, reference.device)
        if member is None:
            lost = None if reference.device == "meta" or not nbytes else f"the record {name} is not in the archive"
            return Storage(reference.key, nbytes, None, reference.device), lost
        crc32 = member.crc32 or None
        if member.nbytes < nbytes:
            lost = f"the record {name} has {member.nbytes:,} of {nbytes:,} bytes"
            return Storage(reference.key, nbytes, None, reference.device, member.name, crc32), lost
        if member.method == STORED:
            if member.offset is None or member.offset + member.nbytes > self.source.size:
                lost = f"the bytes of the record {name} are not in the archive"
                self.lost.add(member.name)
                return Storage(reference.key, nbytes, None, reference.device, member.name, crc32), lost
            return Storage(reference.key, nbytes, member.offset, reference.device, member.name, crc32), None
        return Storage(reference.key, nbytes, None, reference.device, member.name, crc32), None

    def records(self) -> tuple[Record, ...]:
        """Every member whose bytes stand in the file as they are."""
        return tuple(
            Record(member.name, member.offset, member.nbytes, member.crc32 or None)
            for member in self.members
            if member.method == STORED and member.offset is not None and member.stored == member.nbytes
        )

    def byteorder(self) -> dict[str, str] | None:
        """Byte order of the storages, where it is not the usual one."""
        member = self.by_name.get(_folded(f"{self.folder}/byteorder"))
        if member is None:
            return None
        order = self.small(member)
        if order not in (b"little", b"big"):
            self.refused_by_torch("the byte order in it is neither little nor big")
        return {"byteorder": "big"} if order == b"big" else None

    def check_version(self) -> None:
        """Torch reads the version before anything else, as C does: blanks, digits, and whatever follows."""
        names = (f"{self.folder}/.data/version", f"{self.folder}/version")
        member = next((self.by_name[name] for name in map(_folded, names) if name in self.by_name), None)
        if member is None:
            self.refused_by_torch("it has no version")
            return
        digits = (self.small(member) or b"").lstrip(b" \t\n\v\f\r").removeprefix(b"+")
        digits = digits[: len(digits) - len(digits.lstrip(b"0123456789"))]
        if not digits or not MIN_VERSION <= int(digits) <= MAX_VERSION:
            self.refused_by_torch(f"its version is none from {MIN_VERSION} to {MAX_VERSION}")

    def small(self, member: Member) -> bytes | None:
        """The bytes of a member that holds one word; ``None`` where it holds more, or cannot be read."""
        if max(member.nbytes, member.stored) > self.limits.word:
            return None
        try:
            return self.content(member)
        except PickleError:
            return None

    def refused_by_torch(self, why: str) -> None:
        self.defects.append(Defect(DefectKind.TORCH_TRUNCATED, f"torch refuses the archive: {why}."))

    def other_pickles(self, main: Member) -> None:
        """Look for names to refuse in members that have no business in a checkpoint: somebody may load those, too."""
        prefix = _folded(f"{self.folder}/")
        opcodes, nbytes, piece = self.limits.side_opcodes, self.limits.side_total, self.limits.side_piece
        for name, member in self.by_name.items():
            if member is main or member.offset is None or member.method not in (STORED, DEFLATED):
                continue
            inside = name.removeprefix(prefix) if name.startswith(prefix) else None
            if inside is not None and (inside in _OWN_MEMBERS or inside.startswith("data/")):
                continue
            if not member.stored or (inside is not None and self.is_own_of_script(inside, member)):
                continue
            if opcodes <= 0:
                message = f"Members from {clipped(member.name)} on were not looked at: those before take all the time."
                self.defects.append(Defect(DefectKind.RESOURCE_BOMB, message))
                return
            data = self.beginning(member, piece)
            outcome = self.side_pickle(data, opcodes, member)
            whole = min(member.nbytes, nbytes)
            goes_on = outcome.error is not None and outcome.end + _SIDE_MARGIN > len(data) == piece
            if goes_on and len(data) < whole:
                nbytes -= whole
                data = self.beginning(member, whole)
                outcome = self.side_pickle(data, opcodes, member)
                goes_on = outcome.error is not None and outcome.end + _SIDE_MARGIN > len(data)
            # Every opcode takes a byte at least, and looking at all takes its time, too.
            opcodes -= min(outcome.end, self.limits.side_opcodes) + _SIDE_COST
            found = outcome_defects([outcome], clipped(member.name))
            is_pickle = bool(outcome.unsafe) or (data[:1] == b"\x80" and data[1:2] <= b"\x05")
            wanted = {DefectKind.UNSAFE_GLOBAL, *((DefectKind.RESOURCE_BOMB,) if is_pickle else ())}
            if outcome.unsafe:
                wanted.add(DefectKind.TORCH_TRUNCATED)
            self.defects += [defect for defect in found if defect.kind in wanted]
            if goes_on and len(data) < member.nbytes:
                message = f"Member {clipped(member.name)} reads like a pickle, and is too large to be judged as one."
                self.defects.append(Defect(DefectKind.AMBIGUOUS_ARCHIVE, message))

    def side_pickle(self, data: bytes, opcodes: int, member: Member) -> Outcome:
        budget = Budget.for_stored(0, self.limits)
        budget = budget._replace(opcodes=opcodes, visits=0, characters=self.limits.side_total)
        outcome = run(data, budget, 0, member.nbytes)
        return outcome if self.classes is None else of_script(outcome)

    def is_own_of_script(self, inside: str, member: Member) -> bool:
        """Whether a member is one that ``torch.jit.save`` writes and that is no pickle: source, tensors, added files.

        Text reads like a pickle by accident: a line that begins with ``c`` names something. With the mark in front that
        every pickle of protocol 2 and later has, it is looked at nevertheless.
        """
        if self.classes is None or inside in ("constants.pkl",):
            return self.classes is not None
        if inside.startswith(("constants/", "traced_inputs/")):
            return True
        text = inside.startswith("extra/") or (inside.startswith("code/") and inside.endswith(".py"))
        return text and self.beginning(member, 1) != b"\x80"

    def beginning(self, member: Member, nbytes: int) -> bytes:
        """Up to ``nbytes`` from the beginning of a member, inflated; whatever is there of one that is damaged."""
        assert member.offset is not None
        raw = self.source.read_at(member.offset, min(member.stored, nbytes))
        if member.method == STORED:
            return raw
        import zlib

        try:
            return zlib.decompressobj(-15).decompress(raw, nbytes)
        except zlib.error:
            return b""


_SIDE_COST = 100  # opcodes that looking into one more member is worth
_SIDE_MARGIN = 9  # an opcode and its argument of fixed length, in bytes

ZIP_ID = 5
"""Parts of a persistent id in an archive: those of the legacy format have a sixth, for views."""

MIN_VERSION, MAX_VERSION = 1, 10
"""The versions that torch reads (``caffe2/serialize/versions.h``)."""

_OWN_MEMBERS = {"version", "byteorder", ".format_version", ".storage_alignment", ".data/serialization_id"}


def _folded(name: str) -> str:
    """A name as torch's zip reader compares it: ASCII letters without case."""
    return name.lower() if name.isascii() else "".join(c.lower() if c.isascii() else c for c in name)


def _escapes(name: str) -> bool:
    """Whether a member's name leads anywhere but below the folder that it would be extracted to."""
    if name.startswith("/") or "\\" in name or "\0" in name or name[1:2] == ":":
        return True
    return ".." in name and ".." in name.split("/")
