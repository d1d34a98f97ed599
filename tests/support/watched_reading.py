"""A program that reads each hostile file, then loads it with ``pickle``, and prints what the interpreter did.

Its argument is an empty folder. The interpreter reports to an audit hook each import, opened file, started process and
piece of code that is compiled or run.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import pickle
import pkgutil
import sys
import zipfile
import zlib  # noqa: F401  # a reader imports it where it needs it
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ckpt_doctor.formats
from support.hostile import HostileCase, hostile_files

Events = list[tuple[str, str]]


class Watch:
    """An audit hook that can be switched on and off, but never removed."""

    def __init__(self) -> None:
        self.seen: Events | None = None

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.seen is not None and event != "builtins.id":
            self.seen.append((event, str(arguments[0]) if arguments else ""))

    def during(self, work: Callable[[Path], object], path: Path) -> Events:
        """What happened, beside opening ``path``."""
        events = self.seen = []
        with contextlib.suppress(Exception):
            work(path)
        self.seen = None
        return [event for event in events if event != ("open", str(path))]


def _nothing(*_: object) -> None:
    """What stands for every function and class of torch."""


class Unpickler(pickle.Unpickler):
    """Takes every name for what it is, but for those of torch, which takes seconds to import."""

    def find_class(self, module: str, name: str) -> Any:
        """See :class:`pickle.Unpickler`."""
        return _nothing if module.partition(".")[0] == "torch" else super().find_class(module, name)

    def persistent_load(self, pid: Any) -> None:
        """See :class:`pickle.Unpickler`."""


def load(path: Path) -> None:
    """Load whatever can be loaded of it."""
    content = path.read_bytes()
    pickles = [content]
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive, contextlib.suppress(zipfile.BadZipFile):
            pickles += [archive.read(info) for info in archive.infolist() if not info.flag_bits & 0x61]
    for data in pickles:
        stream = io.BytesIO(data)
        with contextlib.suppress(Exception):
            while stream.tell() < len(data):
                Unpickler(stream).load()


def both(watch: Watch, case: HostileCase, path: Path) -> tuple[Events, Events]:
    """What reading and what loading does."""
    read = ckpt_doctor.formats.read_weight_file
    return watch.during(lambda path: read(path, case.filename, case.limits), path), watch.during(load, path)


def main() -> None:
    """Do all of it twice: the first time modules are imported that anything needs."""
    for module in pkgutil.iter_modules(ckpt_doctor.formats.__path__):
        importlib.import_module(f"ckpt_doctor.formats.{module.name}")
    watch = Watch()
    cases = {
        name: (case, Path(sys.argv[1], str(number))) for number, (name, case) in enumerate(hostile_files().items())
    }
    for case, path in cases.values():
        path.write_bytes(case.data)
        both(watch, case, path)
    sys.addaudithook(watch)
    print(json.dumps({name: both(watch, case, path) for name, (case, path) in cases.items()}))


if __name__ == "__main__":
    main()
