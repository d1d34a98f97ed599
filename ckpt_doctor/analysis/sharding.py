"""How an index and the shards beside it fit together: what the rules about shards ask."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ckpt_doctor.core.parts import Part, ShardIndex
from ckpt_doctor.core.weight_file import TensorInfo, WeightFile

# transformers writes model-00001-of-00003.safetensors; diffusers puts a variant before the number or after it.
_NUMBERED = re.compile(r"(?P<stem>.+)-(?P<number>\d+)-of-(?P<total>\d+)(?P<ending>(?:\.[\w-]+)*?\.(?:safetensors|bin))")
# No model has more shards; a file name with a larger number must not cost memory.
_MAX_SHARDS = 5_000


class NumberedSet(NamedTuple):
    """Files ``stem-00001-of-00003.ending`` and so on that belong together.

    ``files`` are those that are there, ``missing`` the paths of those that are not. Both relative to the checkpoint.
    """

    total: int
    ending: str
    files: tuple[WeightFile, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IndexedShards:
    """An index with the shards that it lists: path to the names that it expects there, relative to the checkpoint."""

    index: ShardIndex
    listed: Mapping[str, tuple[str, ...]]
    present: Mapping[str, WeightFile]
    overruled: bool

    @property
    def missing(self) -> tuple[str, ...]:
        """Paths of the listed shards that are not there."""
        return tuple(path for path in self.listed if path not in self.present)

    @property
    def absent(self) -> tuple[str, ...]:
        """Names that are not in the shard that the index names, where that shard is there and can be trusted."""
        absent: list[str] = []
        for path, file in self.present.items():
            if file.readable:
                held = {tensor.name for tensor in file.tensors}
                absent += [name for name in self.listed[path] if name not in held]
        return tuple(absent)

    @property
    def judgeable(self) -> bool:
        """True if every listed shard is there and its list of tensors can be trusted."""
        return not self.missing and all(file.readable for file in self.present.values())


def ending_of(index: ShardIndex) -> str:
    """``.safetensors`` or ``.bin``: which files an index is about, by its name."""
    return ".safetensors" if ".safetensors.index" in index.path else ".bin"


def indexed_shards(part: Part) -> Iterator[IndexedShards]:
    """Each index of the part that could be read, with what it lists.

    ``overruled`` marks an index of ``.bin`` files where loaders read safetensors files instead.
    """
    files = {file.path: file for file in part.files}
    reads_safetensors = any(file.path.endswith(".safetensors") for file in part.preferred)
    for index in part.indexes:
        if index.error is not None:
            continue
        listed: dict[str, list[str]] = {}
        escaping = set(index.escaping)
        for name, shard in index.weight_map.items():
            if shard not in escaping:
                listed.setdefault(_beside(index, shard), []).append(name)
        paths = {path: tuple(names) for path, names in sorted(listed.items())}
        present = {path: files[path] for path in paths if path in files}
        yield IndexedShards(index, paths, present, reads_safetensors and ending_of(index) == ".bin")


def index_path(shard: str) -> str | None:
    """Where loaders look for the index of a numbered shard; ``None`` for another file. Paths in the checkpoint.

    >>> index_path("model-00001-of-00002.safetensors"), index_path("unet/model.fp16-00001-of-00002.safetensors")
    ('model.safetensors.index.json', 'unet/model.safetensors.index.fp16.json')
    """
    found = _NUMBERED.fullmatch(shard)
    if found is None:
        return None
    folder, name = posixpath.split(found["stem"])
    stem, _, before = name.partition(".")
    after, _, ending = found["ending"].rpartition(".")
    variant = f".{before}" if before else after
    return posixpath.join(folder, f"{stem}.{ending}.index{variant}.json")


def numbered_sets(files: Iterable[WeightFile]) -> list[NumberedSet]:
    """The sets of numbered shards among these files, complete or not, in the order of their names."""
    groups: dict[tuple[str, str, str], dict[int, WeightFile]] = {}
    for file in files:
        found = _NUMBERED.fullmatch(file.path)
        if found and 1 <= int(found["number"]) <= int(found["total"]) <= _MAX_SHARDS:
            group = groups.setdefault((found["stem"], found["total"], found["ending"]), {})
            group[int(found["number"])] = file
    sets = []
    for (stem, total, ending), members in sorted(groups.items()):
        digits = len(total)
        absent = [number for number in range(1, int(total) + 1) if number not in members]
        sets.append(
            NumberedSet(
                total=int(total),
                ending=ending,
                files=tuple(members[number] for number in sorted(members)),
                missing=tuple(f"{stem}-{number:0{digits}d}-of-{total}{ending}" for number in absent),
            )
        )
    return sets


def with_siblings(part: Part, shards: IndexedShards) -> dict[str, WeightFile]:
    """The listed shards that are there, and those of their numbered set that the index leaves out, by path."""
    files = dict(shards.present)
    for numbered in numbered_sets(part.files):
        if any(file.path in shards.listed for file in numbered.files):
            files.update({file.path: file for file in numbered.files})
    return dict(sorted(files.items()))


def successor(part: Part, shards: IndexedShards) -> tuple[WeightFile, ...]:
    """The files of a later save that the index knows nothing of; empty if the index is current.

    That is so where listed shards are gone and a complete set of another number, or one single file, lies there.
    """
    if not shards.missing:
        return ()
    ending = ending_of(shards.index)
    of_format = [file for file in part.files if file.path.endswith(ending)]
    for candidate in numbered_sets(of_format):
        if not candidate.missing and not any(file.path in shards.listed for file in candidate.files):
            return candidate.files
    single_path = shards.index.path.partition(".index")[0]
    for file in of_format:
        if file.path == single_path and file.readable and file.tensors:
            names = {tensor.name for tensor in file.tensors}
            if not shards.present or all(name in names for name in shards.index.weight_map):
                return (file,)
    return ()


def plausible(names: Iterable[str], held: Iterable[str]) -> list[str]:
    """Those of ``names`` that a model with the tensors ``held`` can be expected to have.

    Another layer has one of that kind, or the same module has another tensor: a weight beside a scale or a bias.

    >>> plausible(["h.7.fc.weight", "h.0.fc.scale", "old.fc.scale"], ["h.0.fc.weight", "h.1.fc.weight", "head.weight"])
    ['h.7.fc.weight', 'h.0.fc.scale']
    """
    held = list(held)
    kinds = {_kind(name) for name in held}
    modules = {name.rpartition(".")[0] for name in held} - {""}
    return [name for name in names if _kind(name) in kinds or name.rpartition(".")[0] in modules]


def _kind(name: str) -> tuple[str, ...]:
    return tuple("*" if word.isdecimal() else word for word in name.split("."))


def possible_total_sizes(files: Iterable[WeightFile]) -> set[int]:
    """What writers of an index may have meant by ``total_size``, in bytes.

    Each tensor by itself, each byte once, each storage whole, each name once; and older versions of transformers
    counted a bool as one bit.
    """
    tensors = [(file.path, tensor) for file in files for tensor in file.tensors]
    bools = sum(tensor.numel for _, tensor in tensors if tensor.dtype.name == "bool")
    each = sum(tensor.nbytes for _, tensor in tensors)
    by_name = {tensor.name: tensor.nbytes for _, tensor in tensors}
    extents = {(path, tensor.storage.key, *tensor.extent): _extent_bytes(tensor) for path, tensor in tensors}
    storages = {(path, tensor.storage.key): tensor.storage.nbytes for path, tensor in tensors}
    sizes = {each, sum(by_name.values()), sum(extents.values()), sum(storages.values())}
    return sizes | {size - bools + bools // 8 for size in sizes} | {size - bools + -(-bools // 8) for size in sizes}


def _extent_bytes(tensor: TensorInfo) -> int:
    start, end = tensor.extent
    return end - start


def _beside(index: ShardIndex, shard: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(index.path), shard))


def is_whole(part: Part) -> bool:
    """True if all shards that a loader reads are there and their tensors known; else other rules say what is not."""
    names = {file.path for file in part.files}
    of_active = [index for index in part.indexes if index.shards.intersection(part.active)]
    return part.readable and all(index.error is None and index.shards <= names for index in of_active)
