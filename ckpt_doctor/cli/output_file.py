"""Reports into files: the whole report, or the file as it was."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ckpt_doctor.core.errors import OutputError

if TYPE_CHECKING:
    from ckpt_doctor.core.checkpoint import Checkpoint


def check_output_file(name: str, what: str = "report", *, read: str | None = None) -> None:
    """Fail before the work is done if nothing could, or should, be written to ``name``. Raises ``OutputError``.

    ``what`` is how the message calls that which is to be written, and ``read`` names a file that is read for it.
    """
    target = Path(name)
    if read is not None and target.exists() and Path(read).exists() and target.samefile(read):
        raise OutputError(f"cannot write the {what}: {name} is what it is to be held against")
    if target.is_dir():
        raise OutputError(f"cannot write the {what}: {name} is a directory")
    if not target.parent.is_dir():
        raise OutputError(f"cannot write the {what}: {target.parent} is not a directory")


def write_file(name: str, pieces: Iterable[str], *, protected: Iterable[Path] = (), what: str = "report") -> None:
    """Write each piece and a newline to ``name``, all or nothing.

    A link is followed, and the mode of a file that is replaced is kept. None of the ``protected`` files is overwritten.
    Raises ``OutputError``.
    """
    target = Path(name).resolve()
    if target in {path.resolve() for path in protected}:
        raise OutputError(f"cannot write the {what}: {name} is a file of the checkpoint")
    text = "".join(piece + "\n" for piece in pieces)
    # A surrogate is a byte of a file name that was no UTF-8.
    data = text.encode("utf-8", errors="backslashreplace")
    try:
        _replace(target, data)
    except OSError as error:
        raise OutputError(f"cannot write the {what} to {name}: {error.strerror or error}") from error


def files_of(checkpoints: Iterable[Checkpoint]) -> Iterator[Path]:
    """What no report may be written over."""
    for checkpoint in checkpoints:
        yield from (checkpoint.root / file.path for file in checkpoint.files)
        yield from (checkpoint.root / other.path for other in checkpoint.others)
        for part in checkpoint.parts:
            if part.config is not None:
                yield checkpoint.root / part.config.path
            yield from (checkpoint.root / index.path for index in part.indexes)


def _replace(target: Path, data: bytes) -> None:
    mode = None
    if target.exists():
        status = target.stat()
        if not stat.S_ISREG(status.st_mode):
            # Pipes and devices (/dev/null) are written to, not replaced.
            target.write_bytes(data)
            return
        mode = stat.S_IMODE(status.st_mode)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        if mode is not None:
            temporary.chmod(mode)
        temporary.replace(target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise
