"""Which tensors of a file share bytes: what several rules, and the listing of tensors, ask."""

from __future__ import annotations

from typing import NamedTuple

from ckpt_doctor.core.weight_file import TensorInfo, WeightFile


class AliasGroup(NamedTuple):
    """Tensors of one storage whose byte ranges overlap.

    ``unique_nbytes`` counts every byte once, ``apparent_nbytes`` once for each tensor. ``identical`` says that all of
    them are the same view: dtype, shape, stride and offset.
    """

    names: tuple[str, ...]
    unique_nbytes: int
    apparent_nbytes: int
    identical: bool


def alias_groups(file: WeightFile) -> tuple[AliasGroup, ...]:
    """The groups of two or more tensors that overlap, in the order of their first names.

    Like safetensors' own check, disjoint views of one storage do not count as shared.
    """
    by_storage: dict[str, list[TensorInfo]] = {}
    for tensor in file.tensors:
        by_storage.setdefault(tensor.storage.key, []).append(tensor)
    groups = []
    for tensors in by_storage.values():
        if len(tensors) > 1:
            groups += [_group(run) for run in _overlapping_runs(tensors) if len(run) > 1]
    return tuple(sorted(groups, key=lambda group: group.names))


def _overlapping_runs(tensors: list[TensorInfo]) -> list[list[TensorInfo]]:
    runs: list[list[TensorInfo]] = []
    reached = 0
    for tensor in sorted(tensors, key=lambda tensor: (tensor.extent, tensor.name)):
        start, end = tensor.extent
        if start == end:
            continue
        if runs and start < reached:
            runs[-1].append(tensor)
        else:
            runs.append([tensor])
        reached = max(reached, end)
    return runs


def _group(run: list[TensorInfo]) -> AliasGroup:
    first = run[0]
    return AliasGroup(
        names=tuple(sorted(tensor.name for tensor in run)),
        unique_nbytes=max(tensor.extent[1] for tensor in run) - first.extent[0],
        apparent_nbytes=sum(tensor.nbytes for tensor in run),
        identical=all(
            (t.dtype, t.shape, t.stride, t.storage_offset, t.pending)
            == (first.dtype, first.shape, first.stride, first.storage_offset, first.pending)
            for t in run
        ),
    )
