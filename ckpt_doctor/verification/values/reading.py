"""The bytes of a checkpoint's tensors, piece by piece; pickles are not executed for it.

The headers say where each tensor lies, so its bytes are read straight from the file. Only where they are
compressed inside of it does torch have to load them, with ``weights_only=True``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckpt_doctor.core.weight_file import TensorInfo
from ckpt_doctor.runtime.file_access import read_into
from ckpt_doctor.sources.local_file import FileSource
from ckpt_doctor.verification.model.dtypes import torch_dtype

if TYPE_CHECKING:
    import torch

CHUNK = 1 << 21
"""Bytes that are read and compared at a time: few enough for a processor's cache."""


class TensorReader:
    """Reads tensors of the files below ``root``. A context manager; one for each thread."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._sources: dict[str, FileSource] = {}
        self._loaded: dict[str, dict[str, torch.Tensor]] = {}
        self._buffer = bytearray(CHUNK)

    def __enter__(self) -> TensorReader:
        return self

    def __exit__(self, *_: object) -> None:
        for source in self._sources.values():
            source.close()

    def chunks(self, file: str, info: TensorInfo) -> Iterator[tuple[int, torch.Tensor]]:
        """The elements in row-major order: the number of the first, and a flat tensor that is valid until the next.

        Raises ``OSError`` if the file cannot be read, ``ValueError`` where torch has no such dtype.
        """
        import torch

        dtype = torch_dtype(info)
        span = info.byte_range
        if span is None or not info.is_contiguous:
            whole = self.whole(file, info).reshape(-1)
            yield 0, whole
            return
        source = self._source(file)
        step = CHUNK // dtype.itemsize * dtype.itemsize
        for start in range(span[0], span[1], step):
            count = min(step, span[1] - start)
            self._fill(source, start, count)
            yield (start - span[0]) // dtype.itemsize, torch.frombuffer(self._buffer, dtype=torch.uint8, count=count)

    def whole(self, file: str, info: TensorInfo) -> torch.Tensor:
        """A copy of the tensor."""
        import torch

        dtype = torch_dtype(info)
        if info.storage.offset is None:
            return self._unpacked(file)[info.name]
        if info.numel == 0:
            return torch.empty(info.shape, dtype=dtype)
        start, end = info.extent
        data = self._source(file).read_at(info.storage.offset + start, end - start)
        if len(data) != end - start:
            raise OSError(f"{file} ends inside of {info.name}")
        flat = torch.frombuffer(bytearray(data), dtype=torch.uint8).view(dtype)
        return flat.as_strided(info.shape, info.stride)

    def element(self, file: str, info: TensorInfo, index: tuple[int, ...]) -> torch.Tensor:
        """One element, as a tensor without dimensions."""
        import torch

        dtype = torch_dtype(info)
        if info.storage.offset is None:
            return self._unpacked(file)[info.name][index]
        place = info.storage_offset + sum(i * step for i, step in zip(index, info.stride, strict=True))
        data = self._source(file).read_at(info.storage.offset + place * dtype.itemsize, dtype.itemsize)
        if len(data) != dtype.itemsize:
            raise OSError(f"{file} ends inside of {info.name}")
        return torch.frombuffer(bytearray(data), dtype=torch.uint8).view(dtype)[0]

    def _source(self, file: str) -> FileSource:
        if file not in self._sources:
            self._sources[file] = FileSource(self.root / file)
        return self._sources[file]

    def _fill(self, source: FileSource, start: int, count: int) -> None:
        view = memoryview(self._buffer)[:count]
        done = 0
        while done < count:
            assert source.fileno is not None, "the source is closed"
            read = read_into(source.fileno, view[done:], start + done)
            if not read:
                raise OSError("the file ends inside of a tensor")
            done += read

    def _unpacked(self, file: str) -> dict[str, torch.Tensor]:
        if file not in self._loaded:
            import torch

            state = torch.load(self.root / file, map_location="cpu", weights_only=True)
            self._loaded[file] = dict(_flattened(state, ()))
        return self._loaded[file]


def _flattened(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, torch.Tensor]]:
    import torch

    if isinstance(value, torch.Tensor):
        yield ".".join(path), value.detach()
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _flattened(item, (*path, str(key)))
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield from _flattened(item, (*path, str(number)))
