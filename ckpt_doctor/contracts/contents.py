"""What a part of a checkpoint holds, whatever its files are called: what contracts and comparisons see of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.dtypes import unpacked
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.weight_file import TensorInfo, WeightFile
from ckpt_doctor.core.wording import listed
from ckpt_doctor.knowledge.adapter_settings import meaningful_settings
from ckpt_doctor.knowledge.embeddings import INPUT_EMBEDDINGS

MAX_NESTING = 8
"""How deep a setting may be nested; real ones have two levels."""


class Held(NamedTuple):
    """A tensor and the file it lies in. ``dtype`` and ``shape`` are those that safetensors would have."""

    file: WeightFile
    tensor: TensorInfo
    dtype: str
    shape: tuple[int, ...]

    @property
    def digest(self) -> str | None:
        """Hex SHA-256 of its values, or ``None`` if it was not computed or the stored bytes are not the values."""
        scan = (self.file.scans or {}).get(self.tensor.name)
        return None if scan is None or self.tensor.pending else scan.digest

    @property
    def view(self) -> object:
        """What it has in common with another name of the very same elements."""
        tensor = self.tensor
        return (
            *(self.file.path, tensor.storage.key, tensor.dtype, tensor.extent),
            *(tensor.shape, tensor.stride, tensor.pending),
        )


class Both(NamedTuple):
    """A tensor of one shape that two checkpoints have, and the part that it belongs to."""

    part: str
    name: str
    first: Held
    second: Held


class Contents(NamedTuple):
    """The tensors of a part by name, as its loader would read them.

    ``unread`` says why that may not be all, and ``config`` is ``None`` if ``unread_config`` says why.
    """

    part: Part
    tensors: Mapping[str, Held]
    config: Mapping[str, Any] | None
    unread: str | None
    unread_config: str | None

    @property
    def path(self) -> str | None:
        """The only file, or the folder of several; where it would lie if there is none."""
        files = self.part.preferred
        if len(files) == 1:
            return files[0].path
        if files or not self.part.expected_files:
            return self.part.directory or None
        return self.part.expected_files[0]

    @property
    def config_path(self) -> str | None:
        """The configuration of an adapter, or where it would lie."""
        return self.part.config.path if self.part.config is not None else self.part.config_expected

    @property
    def originals(self) -> dict[str, str]:
        """Each further name of one view, with the name that means all: an input embedding, or the first."""
        views: dict[object, list[str]] = {}
        for name, held in self.tensors.items():
            if held.tensor.numel and not held.file.is_safetensors:
                views.setdefault(held.view, []).append(name)
        originals = {}
        for names in views.values():
            if len(names) > 1:
                first = min(names, key=lambda name: (not name.endswith(INPUT_EMBEDDINGS), name))
                originals.update({name: first for name in names if name != first})
        return originals


def contents_of(part: Part) -> Contents:
    """Everything that is read of a part when it is loaded."""
    tensors: dict[str, Held] = {}
    repeated = []
    for file in part.preferred:
        for tensor in file.tensors:
            if tensor.name in tensors:
                repeated.append(tensor.name)
            dtype, shape = unpacked(tensor.dtype, tensor.shape)
            tensors[tensor.name] = Held(file, tensor, dtype.name, shape)
    unread = next(
        (f"{file.path} cannot be read: {complaint(file)}" for file in part.preferred if not file.readable), ""
    )
    if not unread and repeated:
        unread = f"more than one tensor is called {listed(repeated)}"
    config, unread_config = _config(part)
    return Contents(part, tensors, config, unread or None, unread_config)


def complaint(file: WeightFile) -> str:
    """Why the tensors of a file are not all known, as a clause."""
    return file.defects[0].message.rstrip(".") if file.defects else f"this is {file.content or 'of no known kind'}"


def _config(part: Part) -> tuple[Mapping[str, Any] | None, str | None]:
    if part.role != "adapter":
        return None, None
    if part.config is None:
        return None, "the adapter has no configuration"
    if part.config.data is None:
        return None, f"the configuration cannot be read: {part.config.error}"
    settings = meaningful_settings(part.config.data)
    odd = [name for name, value in settings.items() if not is_plain(value)]
    if odd:
        return None, f"the values of {listed(odd)} are not settings"
    return settings, None


def is_plain(value: object, depth: int = MAX_NESTING) -> bool:
    """True if a value can stand in a contract: JSON, with finite numbers, nested no deeper than a setting is.

    >>> is_plain({"q_proj": [1, 2]}), is_plain(float("nan"))
    (True, False)
    """
    if isinstance(value, (list, dict)):
        items = [*value, *value.values()] if isinstance(value, dict) else value
        return depth > 0 and all(is_plain(item, depth - 1) for item in items)
    return not isinstance(value, float) or math.isfinite(value)


def changed(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Name and both values of every setting that is not the same; ``None`` if there is none.

    >>> list(changed({"r": 8, "bias": "all"}, {"r": 8.0}))
    [('bias', 'all', None)]
    """
    for name in sorted(first.keys() | second.keys()):
        if first.get(name) != second.get(name):
            yield name, first.get(name), second.get(name)


def loaded_parts(checkpoint: Checkpoint, *, secondary: bool = False) -> Iterator[Contents]:
    """The parts that an evaluation reads; ``secondary`` adds the adapters that are next to."""
    for part in checkpoint.parts:
        if not part.auxiliary and (secondary or not part.secondary):
            yield contents_of(part)


def pair_up(
    first: Sequence[tuple[str, str]], second: Sequence[tuple[str, str]]
) -> Iterator[tuple[int | None, int | None]]:
    """Positions of what belongs together, each part given by role and name; ``None`` if nothing does.

    The same role and name come first. Where only one of a role is left on each side they belong together (an adapter
    is named after its layout), and so do a lone file and the only part that is left: a file may be anything.

    >>> list(pair_up([("adapter", "weaver adapter"), ("latents", "x")], [("model", "m"), ("adapter", "adapter")]))
    [(0, 1), (1, None), (None, 0)]
    """
    left, right = list(range(len(first))), list(range(len(second)))
    pairs: dict[int, int] = {}

    def join(ours: list[int], theirs: list[int]) -> None:
        if len(ours) == len(theirs) == 1:
            pairs[ours[0]] = theirs[0]
            left.remove(ours[0])
            right.remove(theirs[0])

    for key in dict.fromkeys(first):
        join([n for n in left if first[n] == key], [n for n in right if second[n] == key])
    for role in dict.fromkeys(role for role, _ in first):
        join([n for n in left if first[n][0] == role], [n for n in right if second[n][0] == role])
    if "file" in {role for role, _ in (*first, *second)}:
        join(left, right)
    yield from ((n, pairs.get(n)) for n in range(len(first)))
    yield from ((None, n) for n in right)
