"""The file of a contract: read as data that anybody may have written, and refused where it says anything unknown."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ckpt_doctor.core.contract import KIND, SCHEMA_VERSION, Contract, PinnedPart, PinnedTensor
from ckpt_doctor.core.dtypes import BY_NAME
from ckpt_doctor.core.errors import ContractError
from ckpt_doctor.core.wording import listed
from ckpt_doctor.formats.json_text import repeated
from ckpt_doctor.formats.text_file import read_json

from .contents import is_plain

MAX_NBYTES = 128 << 20
"""Longest file that is read; 100,000 tensors with their values take about 20 million."""

_MAX_DIMS = 64
_MAX_SIZE = (1 << 63) - 1
_TOP = {"schema_version", "kind", "tool", "layout", "parts"}
_PART = {"role", "name", "info", "config", "tensors"}
_SHA256 = re.compile(r"[0-9a-f]{64}")


def read_contract(path: str | os.PathLike[str]) -> Contract:
    """The contract in the file at ``path``. Raises ``ContractError`` if it is none that can be held against."""
    found = read_json(Path(path), MAX_NBYTES)
    name = os.fspath(path)
    if found.error is not None:
        raise ContractError(f"cannot read the contract {name}: {found.error.removeprefix('it is ')}")
    try:
        return _contract(found.data, name)
    except _WrongError as wrong:
        raise ContractError(f"{name} is not a valid contract: {wrong}. `ckpt-doctor lock` writes one") from None


class _WrongError(Exception):
    """What is wrong with the document, in words that follow a colon."""


def _contract(data: Any, source: str) -> Contract:
    if not isinstance(data, dict) or data.get("kind") != KIND:
        raise _WrongError(f'it does not say "kind": "{KIND}"')
    version = data.get("schema_version")
    if type(version) is not int or version < 1:
        raise _WrongError("its schema_version is not a positive number")
    if version > SCHEMA_VERSION:
        raise _WrongError(f"it has schema_version {version}, of a newer ckpt-doctor: update, or lock again")
    _object(data, _TOP, "it")
    parts = data.get("parts")
    if not isinstance(parts, list) or not parts:
        raise _WrongError("it has no list of parts")
    pinned = tuple(_part(part, f"part {number}") for number, part in enumerate(parts, 1))
    if len({(part.role, part.name) for part in pinned}) < len(pinned):
        raise _WrongError("two of its parts have one role and name")
    return Contract(_text(data, "layout", "it"), pinned, source)


def _part(data: Any, where: str) -> PinnedPart:
    _object(data, _PART, where)
    tensors = data.get("tensors")
    if not isinstance(tensors, dict):
        raise _WrongError(f"{where} has no tensors")
    _object(tensors, None, f"the tensors of {where}")
    config = data.get("config")
    if config is not None:
        _object(config, None, f"the config of {where}")
        if not is_plain(config):
            raise _WrongError(f"the config of {where} has a value that a setting cannot have")
    pinned = {name: _tensor(entry, f"{name} in {where}") for name, entry in tensors.items()}
    lost = [name for name, pin in pinned.items() if pin.same_as is not None and pin.same_as not in pinned]
    if lost:
        raise _WrongError(f"{listed(lost)} in {where} is the same_as a tensor that is not pinned")
    return PinnedPart(_text(data, "role", where), _text(data, "name", where), pinned, config, _files(data.get("info")))


def _tensor(data: Any, where: str) -> PinnedTensor:
    _object(data, set(PinnedTensor._fields), where)
    shape = data.get("shape")
    if not isinstance(shape, list) or len(shape) > _MAX_DIMS:
        raise _WrongError(f"the shape of {where} is none")
    if any(type(size) is not int or not 0 <= size <= _MAX_SIZE for size in shape):
        raise _WrongError(f"the shape of {where} has an entry that is not a size")
    digest = data.get("sha256")
    if digest is not None and not (isinstance(digest, str) and _SHA256.fullmatch(digest)):
        raise _WrongError(f"the sha256 of {where} is not 64 lower-case hex digits")
    same_as = _text(data, "same_as", where) if "same_as" in data else None
    return PinnedTensor(_dtype(data, where), tuple(shape), digest, same_as)


def _object(data: Any, known: set[str] | None, where: str) -> None:
    """Refuse what is not an object, says something twice, or says something that would not be checked."""
    if not isinstance(data, dict):
        raise _WrongError(f"{where} is not an object")
    twice = repeated(data)
    if twice:
        raise _WrongError(f"{where} says {listed(twice)} more than once")
    unknown = [name for name in data if known is not None and name not in known]
    if unknown:
        raise _WrongError(f"{where} says {listed(unknown)}, which would not be checked")


def _text(data: Mapping[str, Any], name: str, where: str) -> str:
    value = data.get(name)
    if not isinstance(value, str):
        raise _WrongError(f"{where} has no {name}")
    return value


def _dtype(data: Mapping[str, Any], where: str) -> str:
    name = _text(data, "dtype", where)
    if name not in BY_NAME:
        raise _WrongError(f"{where} has a dtype that does not exist: {name}")
    return name


def _files(info: Any) -> dict[str, str]:
    """What the part was made from; it binds to nothing, so whatever is not understood is left out."""
    files = info.get("files") if isinstance(info, dict) else None
    return dict(_named(files)) if isinstance(files, dict) else {}


def _named(files: dict[str, Any]) -> Iterator[tuple[str, str]]:
    return ((path, kind) for path, kind in files.items() if isinstance(kind, str))
