"""Reading ``torch.save`` archives (torch 1.6 and later): a zip with ``data.pkl`` and one member for each storage.

The members are ``<folder>/data.pkl``, ``<folder>/data/<key>``, ``<folder>/version`` and, by release, ``byteorder``,
``.format_version``, ``.storage_alignment`` and ``.data/serialization_id``. torch takes the folder from the first
member, and compares names without regard to case (``PyTorchStreamReader`` in ``caffe2/serialize``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import partial
from typing import TYPE_CHECKING

from ckpt_doctor.core.defects import Defect, DefectKind
from ckpt_doctor.core.weight_file import Storage, TensorInfo, WeightFile
from ckpt_doctor.core.wording import listed

from . import other_kinds
from .limits import LIMITS, Limits
from .pickle_modules import Classes
from .pickle_values import Budget, PickleError, StorageRef, clipped
from .pickle_walk import Harvest
from .torch_pickle import PickleReading, read_pickle
from .torch_tensors import describe
from .zip_archive import Archive, escapes, folded
from .zip_directory import DEFLATED, STORED, Member, read_directory

if TYPE_CHECKING:
    from ckpt_doctor.sources.source import Source

ZIP_ID = 5
"""Parts of a persistent id in an archive: those of the legacy format have a sixth, for views."""

MIN_VERSION, MAX_VERSION = 1, 10
"""The versions that torch reads (``caffe2/serialize/versions.h``)."""


def read(source: Source, path: str, limits: Limits = LIMITS) -> WeightFile:
    """The weight file in ``source``, which begins or ends as a zip archive: see :class:`.reader.Reader`."""
    directory = read_directory(source, limits)
    if directory.members is None:
        from .torch_salvage import read_without_directory  # whole files start without it

        return read_without_directory(source, path, directory.oddities, limits)
    archive = Archive(source, directory, directory.members, limits)
    defects = list(_name_defects(archive))
    main = _main_pickle(archive)
    if main is None:
        return _without_pickle(archive, path, defects)
    folder = main.name.rpartition("/")[0]
    return _Contents(archive, main, folder, _classes(archive, folder), defects).read(path)


def _name_defects(archive: Archive) -> Iterator[Defect]:
    """What the names of the members give away."""
    escaping = [clipped(member.name, 100) for member in archive.members if escapes(member.name)]
    if escaping:
        message = f"Members have paths that lead out of the archive: {listed(escaping)}."
        yield Defect(DefectKind.PATH_ESCAPE, message, evidence={"names": escaping[:20]})
    # The folder itself may be called "code": torch.save names it after the file.
    code = [
        clipped(member.name, 100)
        for name, member in archive.by_name.items()
        if name.partition("/")[2].startswith(("constants.pkl", "code/")) or name == "constants.pkl"
    ]
    if code:
        message = f"The archive is a TorchScript program, whose code runs with the model: it has {listed(code)}."
        evidence = {"kind": "torchscript", "members": code[:20]}
        yield Defect(DefectKind.EXECUTABLE_ARCHIVE, message, evidence=evidence)


def _main_pickle(archive: Archive) -> Member | None:
    """The pickle that torch loads; an oddity says so if there are several."""
    pickles = [member for name, member in archive.by_name.items() if name.rpartition("/")[2] == "data.pkl"]
    folder = archive.members[0].name.partition("/")[0] if archive.members else ""
    main = archive.get(f"{folder}/data.pkl") or next(iter(pickles), None)
    if len(pickles) > 1:
        archive.oddities.append(f"it has several pickles: {clipped(listed(member.name for member in pickles))}")
    return main


def _classes(archive: Archive, folder: str) -> Classes | None:
    """The classes of a TorchScript archive, ``None`` for an archive of ``torch.save``.

    The folder of the pickle then also holds what only ``torch.jit.save`` writes.
    """
    prefix = folded(f"{folder}/")
    code = f"{prefix}code/"
    if f"{prefix}constants.pkl" not in archive.by_name and not any(name.startswith(code) for name in archive.by_name):
        return None
    from .torch_script import classes_of  # archives of torch.save start without it

    return classes_of(archive, folder)


def _without_pickle(archive: Archive, path: str, defects: list[Defect]) -> WeightFile:
    """An archive without ``data.pkl``, which ``torch.save`` did not write."""
    content = f"a zip archive of {len(archive.members)} members without data.pkl"
    if not defects:
        other = other_kinds.of_archive([member.name for member in archive.members])
        if other is not None:
            return other_kinds.as_file(archive.source.size, path, other)
        message = f"The file is {content}: not written by torch.save."
        defects.append(Defect(DefectKind.IMPOSTOR, message, evidence={"members": len(archive.members)}))
    defects += _oddity_defects(archive, frozenset())
    return WeightFile(
        path=path,
        format="unknown",
        nbytes=archive.source.size,
        content=content,
        records=archive.records(),
        defects=tuple(defects),
    )


def _oddity_defects(archive: Archive, lost: Collection[str]) -> Iterator[Defect]:
    """What readers could disagree about. Of the ``lost`` members it is said elsewhere that their bytes are missing."""
    for name, sentences in archive.holes.items():
        if name not in lost:
            archive.oddities += sentences
    if archive.oddities:
        message = f"The archive is ambiguous: {'; '.join(archive.oddities[:3])}."
        yield Defect(DefectKind.AMBIGUOUS_ARCHIVE, message, evidence={"oddities": list(archive.oddities)})


class _Contents:
    """The contents of one archive: what its pickle in ``folder`` describes, held against the other members."""

    def __init__(
        self, archive: Archive, main: Member, folder: str, classes: Classes | None, defects: list[Defect]
    ) -> None:
        self.archive = archive
        self.main = main
        self.folder = folder
        self.classes = classes
        self.defects = defects
        self.lost: set[str] = set()  # members whose bytes are missing, which is said of the tensors in them

    def read(self, path: str) -> WeightFile:
        """All that is known of the file."""
        reading = self.pickle(self.main)
        tensors = self.described(reading.harvest, "data")
        constants = () if self.classes is None else self.constants()
        if reading.id_lengths - {ZIP_ID}:
            self.refused_by_torch(f"the ids of its storages have not {ZIP_ID} parts")
        self.look_aside()
        self.check_version()
        metadata = self.byteorder()
        self.defects += _oddity_defects(self.archive, self.lost)
        script = self.classes is not None
        return WeightFile(
            path=path,
            format="torchscript" if script else "torch-zip",
            nbytes=self.archive.source.size,
            content="a TorchScript archive" if script else "a torch archive",
            tensors=(*tensors, *constants),
            metadata=metadata,
            values=reading.harvest.values,
            records=self.archive.records(),
            plain=reading.harvest.plain,
            defects=(*reading.defects, *self.defects),
            # torch refuses the archive as such, whatever the pickle names.
            refusals=() if script else reading.refusals,
            outside=(*reading.harvest.outside, *(tensor.name for tensor in constants)),
        )

    def pickle(self, member: Member) -> PickleReading:
        """Read ``member`` as a pickle, and compare its checksum."""
        archive = self.archive
        budget = Budget.for_stored(min(member.stored, archive.source.size), archive.limits)
        try:
            data = archive.content(member)
        except PickleError as problem:
            return PickleReading(defects=[Defect(problem.kind, f"{clipped(member.name)}: {problem}.")])
        reading = read_pickle(data, budget, clipped(member.name), self.classes)
        reading.defects += _checksum_defects(member, data)
        return reading

    def described(self, found: Harvest, folder: str) -> tuple[TensorInfo, ...]:
        """The tensors of a pickle, whose storages are the members in ``folder``; what is missing becomes defects."""
        tensors, missing = describe(found, partial(self.storage, folder))
        self.defects += missing
        return tensors

    def constants(self) -> tuple[TensorInfo, ...]:
        """The constants of a TorchScript archive, which its code calls ``CONSTANTS.c0`` and so on."""
        member = self.archive.get(f"{self.folder}/constants.pkl")
        if member is None:
            return ()
        reading = self.pickle(member)
        self.defects += reading.defects
        found = reading.harvest
        names = {name: f"CONSTANTS.c{name}" for name, _, _ in found.tensors}
        found.tensors = [(names[name], (names[name],), node) for name, _, node in found.tensors]
        return self.described(found, "constants")

    def storage(self, folder: str, reference: StorageRef) -> tuple[Storage, str | None]:
        """The storage in the member ``<folder>/<key>``, and why its bytes are not there if they are not."""
        nbytes, device = reference.nbytes, reference.device
        name = f"{self.folder}/{folder}/{reference.key}"
        key = reference.key if folder == "data" else f"{folder}/{reference.key}"
        member = self.archive.get(name)
        if member is None:
            lost = None if device == "meta" or not nbytes else f"the record {name} is not in the archive"
            return Storage(key, nbytes, None, device), lost
        offset: int | None = None
        lost = None
        if member.nbytes < nbytes:
            lost = f"the record {name} has {member.nbytes:,} of {nbytes:,} bytes"
        elif member.method == STORED:
            offset = member.offset
            if offset is None or offset + member.nbytes > self.archive.source.size:
                offset = None
                lost = f"the bytes of the record {name} are not in the archive"
                self.lost.add(member.name)
        return Storage(key, nbytes, offset, device, member.name, member.crc32 or None), lost

    def look_aside(self) -> None:
        """Look for names to refuse in members that have no business in a checkpoint: somebody may load those, too."""
        strangers = self.strangers()
        if strangers:
            from .side_pickles import side_pickle_defects  # most archives have none

            self.defects += side_pickle_defects(self.archive, strangers, self.classes)

    def strangers(self) -> list[Member]:
        """The members that torch does not write, as far as they have bytes that it reads."""
        prefix = folded(f"{self.folder}/")
        found = []
        for name, member in self.archive.by_name.items():
            inside = name.removeprefix(prefix) if name.startswith(prefix) else None
            if inside is not None and (inside.startswith("data/") or inside in _OWN_MEMBERS):
                continue
            if member is self.main or member.offset is None or member.method not in (STORED, DEFLATED):
                continue
            if member.stored and not (inside is not None and self.is_of_script(inside, member)):
                found.append(member)
        return found

    def is_of_script(self, inside: str, member: Member) -> bool:
        if self.classes is None:
            return False
        from .torch_script import is_own_member

        return is_own_member(self.archive, inside, member)

    def byteorder(self) -> dict[str, str] | None:
        """Byte order of the storages, where it is not the usual one."""
        member = self.archive.get(f"{self.folder}/byteorder")
        if member is None:
            return None
        order = self.archive.word(member)
        if order not in (b"little", b"big"):
            self.refused_by_torch("its byte order is neither little nor big")
        return {"byteorder": "big"} if order == b"big" else None

    def check_version(self) -> None:
        """Torch reads the version before anything else, as C does: blanks, digits, and whatever follows."""
        member = self.archive.get(f"{self.folder}/.data/version") or self.archive.get(f"{self.folder}/version")
        if member is None:
            self.refused_by_torch("it has no version")
            return
        digits = (self.archive.word(member) or b"").lstrip(b" \t\n\v\f\r").removeprefix(b"+")
        digits = digits[: len(digits) - len(digits.lstrip(b"0123456789"))]
        if not digits or not MIN_VERSION <= int(digits) <= MAX_VERSION:
            self.refused_by_torch(f"its version is not between {MIN_VERSION} and {MAX_VERSION}")

    def refused_by_torch(self, why: str) -> None:
        self.defects.append(Defect(DefectKind.TORCH_TRUNCATED, f"torch refuses the archive: {why}."))


_OWN_MEMBERS = {"version", "byteorder", ".format_version", ".storage_alignment", ".data/serialization_id"}


def _checksum_defects(member: Member, data: bytes) -> Iterator[Defect]:
    """That the bytes of a member are not those that were stored."""
    if not member.crc32:
        return
    from zlib import crc32

    actual = crc32(data)
    if actual != member.crc32:
        message = f"The checksum of {clipped(member.name)} is {actual:08x}, the archive says {member.crc32:08x}."
        yield Defect(DefectKind.CHECKSUM, message)
