"""The words for what a checkpoint is held to: its contract."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from .envelope import envelope
from .nothing import NOTHING

SCHEMA_VERSION = 1
"""Of the document. It grows with everything that is pinned: a reader must not pass over what it does not know."""

KIND = "ckpt-doctor contract"
"""The marker in a contract document: no other JSON file is taken for a contract."""

UNNAMED = "the contract"
"""How messages call a contract that lies in no file."""


class PinnedTensor(NamedTuple):
    """The requirements of a contract on one tensor.

    ``dtype`` and ``shape`` are those that safetensors would have. ``sha256`` is the hex digest of the elements as
    contiguous little-endian bytes, or ``None`` if values are not pinned. ``same_as`` names a tensor of the same part
    of which this one was another name when the contract was made.
    """

    dtype: str
    shape: tuple[int, ...]
    sha256: str | None = None
    same_as: str | None = None


class PinnedPart(NamedTuple):
    """The requirements of a contract on one part of a checkpoint, for any names and number of files.

    ``config`` holds the settings of an adapter that change what its tensors mean, or is ``None`` if there is no
    configuration. ``files`` maps the files from which the contract was made to their formats: for information only.
    """

    role: str
    name: str
    tensors: Mapping[str, PinnedTensor]
    config: Mapping[str, Any] | None = None
    files: Mapping[str, str] = NOTHING


class Contract(NamedTuple):
    """What a checkpoint must hold. ``source`` is how messages name it: the path of its file, if it has one."""

    layout: str
    parts: tuple[PinnedPart, ...]
    source: str = UNNAMED

    @property
    def tensors(self) -> int:
        """Number of tensors that are pinned."""
        return sum(len(part.tensors) for part in self.parts)

    @property
    def valued(self) -> frozenset[str]:
        """Names of the tensors whose values are pinned."""
        return frozenset(name for part in self.parts for name, pin in part.tensors.items() if pin.sha256 is not None)

    def to_json(self) -> str:
        """The document, with a line for each tensor and each setting, in an order that depends on nothing else."""
        return "\n".join(_document(self))


def _document(contract: Contract) -> Iterator[str]:
    yield "{"
    for key, value in envelope(kind=KIND, version=SCHEMA_VERSION).items():
        yield f'  "{key}": {json.dumps(value)},'
    yield f'  "layout": {json.dumps(contract.layout)},'
    yield '  "parts": ['
    for number, part in enumerate(contract.parts, 1):
        yield "    {"
        yield f'      "role": {json.dumps(part.role)},'
        yield f'      "name": {json.dumps(part.name)},'
        yield f'      "info": {json.dumps({"files": dict(part.files)})},'
        if part.config is not None:
            yield from _block("config", {key: part.config[key] for key in sorted(part.config)}, ",")
        yield from _block("tensors", {name: _tensor(part.tensors[name]) for name in sorted(part.tensors)}, "")
        yield "    }" + ("," if number < len(contract.parts) else "")
    yield "  ]"
    yield "}"


def _block(name: str, entries: Mapping[str, Any], end: str) -> Iterator[str]:
    if not entries:
        yield f'      "{name}": {{}}{end}'
        return
    yield f'      "{name}": {{'
    for number, (key, value) in enumerate(entries.items(), 1):
        yield f"        {json.dumps(key)}: {json.dumps(value)}" + ("," if number < len(entries) else "")
    yield f"      }}{end}"


def _tensor(pin: PinnedTensor) -> dict[str, Any]:
    return {name: value for name, value in pin._asdict().items() if value is not None}
