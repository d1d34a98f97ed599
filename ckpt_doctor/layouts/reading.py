"""Reading the files of one checkpoint: names relative to its root, each file once."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ckpt_doctor.core.checkpoint import Checkpoint, OtherFile, Unread
from ckpt_doctor.core.defects import DefectKind
from ckpt_doctor.core.entries import KnownSize
from ckpt_doctor.core.layout import Layout
from ckpt_doctor.core.parts import ConfigFile, Part, ShardIndex
from ckpt_doctor.core.weight_file import WeightFile
from ckpt_doctor.formats.other_kinds import NAMED_ENDINGS, begins_like_weights
from ckpt_doctor.knowledge.weight_names import is_opened_by_name

from .disk import DISK, Disk
from .folder import Folder
from .left_out import grouped
from .names import has_weight_ending, is_named_like_weights, is_pickle_name, is_training_state, may_hide_a_pickle
from .unfinished import signs


class CheckpointReader:
    """Reads files below ``root`` and remembers which, so that the rest can be listed.

    Names are relative to ``root``, with ``/``.
    """

    def __init__(self, root: Path, shown: str, disk: Disk = DISK) -> None:
        self.root = root
        self.shown = shown
        self.disk = disk
        self._seen: set[str] = set()
        self._files: dict[str, WeightFile] = {}
        self._folders: dict[str, Folder] = {}

    def folder(self, name: str = "") -> Folder:
        """The directory of this name, or the root; each is listed once."""
        if name not in self._folders:
            self._folders[name] = Folder(self.root / name, self.disk)
        return self._folders[name]

    def weights(self, names: Iterable[str]) -> tuple[WeightFile, ...]:
        """The weight files of these names, in this order."""
        return tuple(self._weight_file(name) for name in names)

    def _weight_file(self, name: str) -> WeightFile:
        self._seen.add(name)
        if name not in self._files:
            self._files[name] = self.disk.weights(self.root / name, name)
        return self._files[name]

    def config(self, name: str) -> ConfigFile | None:
        """The JSON object of this name, or ``None`` where there is no such file."""
        if not self.disk.has_file(self.root / name):
            return None
        self._seen.add(name)
        return self.disk.config(self.root / name, name)

    def index(self, name: str) -> ShardIndex:
        """The shard index of this name."""
        self._seen.add(name)
        return self.disk.index(self.root / name, name)

    def checkpoint(
        self,
        kind: Layout,
        variant: str,
        parts: Iterable[Part],
        folders: Iterable[str],
        *,
        config: ConfigFile | None = None,
        known_sizes: tuple[KnownSize, ...] = (),
    ) -> Checkpoint:
        """The checkpoint of these parts; ``folders`` are the directories, relative to the root, that belong to it.

        Whatever else there bears the name of a weight file is read too, as training state or as an extra: a file that
        carries code is dangerous whether or not today's loader opens it.
        """
        folders = tuple(dict.fromkeys(folders))
        rest = [join(folder, name) for folder in folders for name in self.folder(folder).files]
        rest = [path for path in rest if path not in self._seen]
        state = self.weights(path for path in rest if is_training_state(path.rpartition("/")[2]))
        unread: list[Unread] = []
        extra = self._extras((path for path in rest if path not in self._seen), unread)
        more = []
        if state:
            more.append(Part("training state", "training-state", files=state, active=_paths(state), required=False))
        if extra:
            more.append(Part("other files", "extra", files=extra, active=_paths(extra), required=False))
        others = tuple(other for folder in folders for other in self._others(folder))
        return Checkpoint(
            *(self.root, self.shown, kind, variant, (*parts, *more), others, config, known_sizes),
            unread=grouped(unread),
            unfinished=signs(self.root, self.disk),
        )

    def _extras(self, paths: Iterable[str], unread: list[Unread]) -> tuple[WeightFile, ...]:
        files = []
        for path in paths:
            named = is_named_like_weights(path)
            if not named and not (path.endswith(".distcp") or self._may_be_weights(path)):
                continue
            file = self.disk.weights(self.root / path, path)
            other = unread_of(file)
            if other is not None:
                self._seen.add(path)
                unread.append(other)
            elif (
                not (path.endswith(".bin") and is_foreign(file))
                if has_weight_ending(path)
                else file.has_defect(DefectKind.UNSAFE_GLOBAL, DefectKind.RESOURCE_BOMB) or _holds_weights(file, named)
            ):
                self._seen.add(path)
                files.append(file)
        return tuple(files)

    def _may_be_weights(self, path: str) -> bool:
        """Whether a file begins like weights, like a pickle, or like a zip archive that may hold one."""
        if not may_hide_a_pickle(path):
            return False
        if is_pickle_name(path) or path.endswith(NAMED_ENDINGS):
            return True
        head = self.disk.head(self.root / path, 16)
        return head[:1] == b"\x80" or begins_like_weights(head)

    def _others(self, folder: str) -> list[OtherFile]:
        found = []
        inside = os.path.realpath(hub_repository(self.root) or self.root)
        for name in self.folder(folder).files:
            path = join(folder, name)
            full = self.root / path
            target = self.disk.link_target(full)
            if path in self._seen and target is None:
                continue
            outside = target is not None and not f"{os.path.realpath(full)}/".startswith(f"{inside}/")
            found.append(OtherFile(path, self.disk.size(full), target, outside))
        return found


def hub_repository(folder: Path) -> Path | None:
    """The repository of a hub cache that ``folder`` is a snapshot of, or lies in one: its links lead to ``blobs``."""
    for snapshots in folder.parents:
        if snapshots.name == "snapshots" and os.path.isdir(snapshots.parent / "blobs"):  # noqa: PTH112
            return snapshots.parent
    return None


def is_foreign(file: WeightFile) -> bool:
    """Whether a file is something else altogether: its ending is shared with others, and nothing in it is dangerous."""
    return bool(file.defects) and all(defect.kind.foreign for defect in file.defects)


def unread_of(file: WeightFile) -> Unread | None:
    """A file of weights of another kind, under a name that no loader of torch or safetensors opens."""
    for defect in file.defects:
        kind = defect.other_kind
        if kind is not None and defect.evidence["weights"] and not is_opened_by_name(file.path, weights=True):
            return Unread(file.path, kind, file.nbytes, str(defect.evidence["reason"]))
    return None


def _holds_weights(file: WeightFile, named: bool) -> bool:
    """Whether a file whose ending says little holds tensors, or was to hold some and is damaged."""
    if not file.is_known:
        return named and not is_foreign(file)
    return bool(file.tensors)


def _paths(files: Iterable[WeightFile]) -> tuple[str, ...]:
    return tuple(file.path for file in files)


def join(folder: str, name: str) -> str:
    """``folder/name``, or the name alone at the root.

    >>> join("", "a"), join("x", "a")
    ('a', 'x/a')
    """
    return f"{folder}/{name}" if folder else name
