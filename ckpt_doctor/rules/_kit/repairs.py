"""The common part of the fixes of several rules, as actions: names changed with their index, indexes built anew."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Collection, Iterable, Mapping

from ckpt_doctor.analysis.sharding import indexed_shards
from ckpt_doctor.core.actions import Action, EditJson, Rewrite, WriteIndex
from ckpt_doctor.core.dtypes import BY_NAME
from ckpt_doctor.core.parts import Part, ShardIndex
from ckpt_doctor.core.weight_file import WeightFile


def renaming(part: Part, file: WeightFile, names: Iterable[str], better: Callable[[str], str]) -> tuple[Action, ...]:
    """Give these tensors the name that ``better`` makes of the key they have in their dictionary.

    Nothing if two tensors would have one name, or where a name is not the last key of its path alone.
    """
    chosen = frozenset(names)
    changes: dict[str, str] = {}
    for tensor in file.tensors:
        if tensor.name in chosen:
            path = tensor.path or (tensor.name,)
            changes[tensor.name] = ".".join((*path[:-1], better(path[-1])))
    after = [changes.get(tensor.name, tensor.name) for tensor in file.tensors]
    if len(set(after)) < len(after) or any(old == new for old, new in changes.items()):
        return ()
    actions: list[Action] = [Rewrite(file.path, names=changes)]
    for shards in indexed_shards(part):
        if file.path in shards.listed:
            weight_map = {changes.get(name, name): shard for name, shard in shards.index.weight_map.items()}
            total = shards.index.total_size
            if total is None:
                total = sum(tensor.nbytes for other in shards.present.values() for tensor in other.tensors)
            actions.append(WriteIndex(shards.index.path, weight_map, total, like=shards.index.path))
    return tuple(actions)


def casting(part: Part, dtype: str, floats: Collection[str]) -> tuple[Action, ...]:
    """Cast what a loader reads of the part, where its dtype is another one of ``floats``, and correct the indexes.

    Nothing if an index does not fit its shards: its size would have to be made up.
    """
    changes = {
        file.path: {t.name: dtype for t in file.tensors if t.dtype.name in floats and t.dtype.name != dtype}
        for file in part.preferred
    }
    actions: list[Action] = [Rewrite(path, dtypes=dtypes) for path, dtypes in changes.items() if dtypes]
    for shards in indexed_shards(part):
        if not any(changes.get(path) for path in shards.listed):
            continue
        if not shards.judgeable or shards.absent:
            return ()
        total = sum(
            (BY_NAME[dtype] if tensor.name in changes.get(path, ()) else tensor.dtype).nbytes(tensor.numel)
            for path, file in shards.present.items()
            for tensor in file.tensors
        )
        actions.append(WriteIndex(shards.index.path, shards.index.weight_map, total, like=shards.index.path))
    return tuple(actions)


def rebuilding(path: str, files: Iterable[WeightFile], like: ShardIndex | None = None) -> tuple[Action, ...]:
    """Write the index at ``path`` anew from what the shards in its folder hold."""
    folder = posixpath.dirname(path)
    weight_map: dict[str, str] = {}
    total = 0
    for file in files:
        shard = posixpath.relpath(file.path, folder) if folder else file.path
        weight_map.update(dict.fromkeys((tensor.name for tensor in file.tensors), shard))
        total += sum(tensor.nbytes for tensor in file.tensors)
    return (WriteIndex(path, weight_map, total, like=like.path if like is not None else None),)


def setting(part: Part, values: Mapping[str, object]) -> tuple[Action, ...]:
    """Set these keys in the configuration of a part, which must have been readable."""
    return (EditJson(part.config.path, values),) if part.config is not None else ()
