"""Reading the JSON files beside the weights: bounded, and with reasons instead of exceptions."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from ckpt_doctor.core.wording import byte_size
from ckpt_doctor.sources.local_file import FileSource

from .json_text import JsonError, parse
from .limits import LIMITS


class JsonFile(NamedTuple):
    """What a JSON file held. ``data`` means nothing where ``error`` is set.

    ``unreadable`` says that the operating system refused, rather than the content.
    """

    data: Any = None
    error: str | None = None
    unreadable: bool = False


def read_json(path: Path, limit: int, depth: int = LIMITS.json_depth) -> JsonFile:
    """Parse the file at ``path`` unless it is longer than ``limit`` bytes. Never raises for content or I/O."""
    try:
        with FileSource(path) as source:
            if source.size > limit:
                return JsonFile(
                    error=f"it is {byte_size(source.size)} long, and more than {byte_size(limit)} is not read"
                )
            raw = source.read_at(0, source.size)
    except OSError as error:
        return JsonFile(error=error.strerror or str(error), unreadable=True)
    except ValueError:
        return JsonFile(error="no file can have this name", unreadable=True)
    return parse_json(raw, depth)


def parse_json(raw: bytes, depth: int = LIMITS.json_depth) -> JsonFile:
    """Parse the content of a JSON file. Never raises."""
    if not raw.strip():
        return JsonFile(error="it is empty")
    try:
        # Editors on Windows put a byte order mark in front, and loaders that open such a file in text mode read it.
        return JsonFile(data=parse(raw.decode("utf-8-sig"), depth=depth))
    except UnicodeDecodeError as error:
        return JsonFile(error=f"it is not UTF-8 (byte {error.start:,} is 0x{raw[error.start]:02x})")
    except JsonError as error:
        return JsonFile(error=f"it is not JSON: {error}")
