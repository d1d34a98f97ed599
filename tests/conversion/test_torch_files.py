"""A torch file that is written without torch is the one that ``torch.save`` writes, byte for byte."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from ckpt_doctor import ConversionError, convert, open_checkpoint
from ckpt_doctor.conversion.pickling import NewParameter, NewStorage, NewTensor, TorchDType, pickled
from ckpt_doctor.conversion.slots import Slot
from ckpt_doctor.conversion.torch_archive import directory, laid_out
from ckpt_doctor.core.dtypes import BY_NAME, UNTYPED, contiguous_stride
from support.states import DTYPES, filled, load, same

ID = "archive/.data/serialization_id"


def saved(state: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(state, stream)
    return stream.getvalue()


def without_id(data: bytes) -> tuple[bytes, bytes]:
    """An archive with zeros for its id and for the three places of its checksum, and the id."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        info = archive.getinfo(ID)
        name = archive.read(ID)
    crc32 = info.CRC.to_bytes(4, "little")
    assert data.count(name) == 1
    assert data.count(crc32) == 2
    return data.replace(name, b"0" * len(name)).replace(crc32, bytes(4)), name


def in_file_order(path: Path, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {tensor.name: state[tensor.name] for tensor in open_checkpoint(path).files[0].tensors}


@pytest.mark.parametrize("count", [1, 40, 2100])
def test_byte_for_byte(tmp_path: Path, count: int) -> None:
    state = {f"w.{number}": filled((number % 7, 3), DTYPES[number % len(DTYPES)], number) for number in range(count)}
    state |= {"large": filled((3 << 19,), torch.bfloat16), "scalar": torch.tensor(1.5), "empty": torch.empty(2, 0)}
    save_file(state, tmp_path / "a.safetensors")
    convert(tmp_path / "a.safetensors", to="bin")
    ours, our_id = without_id((tmp_path / "a.bin").read_bytes())
    theirs, their_id = without_id(saved(in_file_order(tmp_path / "a.safetensors", state)))
    assert ours == theirs
    assert len(our_id) == len(their_id)
    assert our_id.isdigit()


def test_the_id_is_that_of_the_content(tmp_path: Path) -> None:
    ids = []
    for number, value in enumerate((1.0, 1.0, 2.0)):
        save_file({"w": torch.full((3,), value)}, tmp_path / f"{number}.safetensors")
        convert(tmp_path / f"{number}.safetensors", to="bin")
        ids.append(without_id((tmp_path / f"{number}.bin").read_bytes())[1])
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize("mmap", [False, True])
def test_torch_loads_every_dtype_with_its_default(tmp_path: Path, mmap: bool) -> None:
    state = {str(dtype): filled((4, 6), dtype, number) for number, dtype in enumerate(DTYPES)}
    save_file(state, tmp_path / "a.safetensors")
    convert(tmp_path / "a.safetensors", to="bin")
    back = torch.load(tmp_path / "a.bin", weights_only=True, mmap=mmap)
    assert same(back, state)
    assert all(back[name].stride() == state[name].stride() for name in state)


def test_packed_floats(tmp_path: Path) -> None:
    header = b'{"w":{"dtype":"F4","shape":[2,6],"data_offsets":[0,6]}}'
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"abcdef")
    convert(tmp_path / "a.safetensors", to="bin")
    tensor = load(tmp_path / "a.bin")["w"]
    assert (tensor.dtype, tensor.shape) == (torch.float4_e2m1fn_x2, (2, 3))
    assert bytes(tensor.view(torch.uint8).reshape(-1).tolist()) == b"abcdef"


def test_names_that_were_dropped_share_a_record_again(tmp_path: Path) -> None:
    save_file({"a": torch.ones(3, 4)}, tmp_path / "a.safetensors", metadata={"b": "a"})
    convert(tmp_path / "a.safetensors", to="bin")
    back = load(tmp_path / "a.bin")
    assert back["a"].data_ptr() == back["b"].data_ptr()
    with zipfile.ZipFile(tmp_path / "a.bin") as archive:
        assert archive.testzip() is None
        assert [name for name in archive.namelist() if "/data/" in name] == ["archive/data/0"]


class Translated:
    """Makes the values that are pickled here of those that torch saves."""

    def __init__(self) -> None:
        self.tensors: dict[int, Any] = {}
        self.storages: dict[int, NewStorage] = {}

    def value(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            if id(value) not in self.tensors:
                self.tensors[id(value)] = self.tensor(value)
            return self.tensors[id(value)]
        if isinstance(value, OrderedDict):
            result = OrderedDict((key, self.value(item)) for key, item in value.items())
            vars(result).update({key: self.value(item) for key, item in vars(value).items()})
            return result
        if isinstance(value, dict):
            return {key: self.value(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(map(self.value, value))
        return TorchDType(str(value).removeprefix("torch.")) if isinstance(value, torch.dtype) else value

    def tensor(self, value: torch.Tensor) -> NewTensor | NewParameter:
        storage = value.untyped_storage()
        new = self.storages.setdefault(storage._cdata, NewStorage(Slot("", storage.nbytes(), 0)))
        dtype = BY_NAME[str(value.dtype).removeprefix("torch.")]
        parameter = isinstance(value, torch.nn.Parameter)
        shape, stride, offset = tuple(value.shape), value.stride(), value.storage_offset()
        data = NewTensor(dtype, shape, stride, new, offset, value.requires_grad and not parameter)
        return NewParameter(data, value.requires_grad) if parameter else data


def states() -> list[Any]:
    weight = filled((6, 8), torch.float32)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    numbers = [0, 1, -1, 255, 256, 65535, 65536, -129, 2**31 - 1, 2**31, -(2**31), -(2**31) - 1, -(2**63), 2**64]
    return [
        {"a": weight, "b": weight, "rows": weight[2:4], "turned": weight.t(), "spread": weight[:1].expand(3, 8)},
        model.state_dict(),
        {"p": torch.nn.Parameter(weight), "q": torch.nn.Parameter(weight[1:], requires_grad=False)},
        {"grad": torch.ones(2, requires_grad=True)},
        {"numbers": numbers + [sign * 2**bits for bits in (7, 8, 15, 16, 300, 2000) for sign in (1, -1)]},
        {"values": [None, True, False, 1.5, float("inf"), "é", "", b"", b"\xff\0", 1 + 2j, (), (1,), (1, 2, 3, 4)]},
        {"dtypes": (torch.float16, torch.float16, torch.uint16)},
        {1: {}, None: [], (1, 2)[0] + 1: OrderedDict(), "one": {"k": 1}, "list": [[]], 2.5: [1]},
        [f"element {number}" for number in range(2500)],
        {f"key {number}": number for number in range(2001)},
        *(OrderedDict((f"key {number}", [number]) for number in range(count)) for count in (1, 1000, 1001)),
        *({f"key {number}": {} for number in range(count)} for count in (999, 1000, 1001, 3000)),
        *([None] * count for count in (1000, 1001)),
        weight,
    ]


@pytest.mark.parametrize("number", range(len(states())))
def test_pickles_are_those_of_torch_opcode_for_opcode(number: int) -> None:
    state = states()[number]
    with zipfile.ZipFile(io.BytesIO(saved(state))) as archive:
        expected = archive.read("archive/data.pkl")
    assert pickled(Translated().value(state))[0] == expected


def test_the_dtypes_without_a_class_of_storage_are_those_of_torch() -> None:
    known = {str(dtype).removeprefix("torch.") for dtype in torch.storage._new_dtypes()}
    assert known == UNTYPED
    for name in UNTYPED:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch calls some of them experimental
            tensor = torch.empty(3, dtype=getattr(torch, name))
            assert Translated().tensor(tensor).dtype.bits == 8 * tensor.dtype.itemsize
            with zipfile.ZipFile(io.BytesIO(saved([tensor]))) as archive:
                assert pickled([Translated().value(tensor)])[0] == archive.read("archive/data.pkl")


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (1, 1), (4, 5, 6), (0, 0)])
def test_contiguous_strides_are_those_of_torch(shape: tuple[int, ...]) -> None:
    assert contiguous_stride(shape) == torch.empty(shape).stride()


def test_more_than_fits_32_bits() -> None:
    """Read with Python's ``zipfile`` from a file that is a hole for the most part."""
    sizes = [("data.pkl", 3), ("data/0", (1 << 32) + 5), ("data/1", 70), ("data/2", 1 << 32), ("version", 2)]
    places = laid_out(sizes)
    assert all(place.start % 64 == 0 for place in places)
    with Sparse() as file:
        for place in places:
            file.put(place.header, place.local_header())
            assert place.header + len(place.local_header()) == place.start
            file.put(place.start + place.nbytes, place.descriptor(0))
        file.put(places[-1].end, directory(places, [0] * len(places)))
        with zipfile.ZipFile(file) as archive:
            found = [(info.filename, info.file_size, info.header_offset) for info in archive.infolist()]
            assert found == [(place.name, place.nbytes, place.header) for place in places]
            for place in places:
                with archive.open(place.name) as member:
                    assert member.name == place.name


class Sparse(io.BytesIO):
    """A file that is kept as its pieces, for the rest of which it gives zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: dict[int, bytes] = {}
        self.position = self.length = 0

    def put(self, position: int, data: bytes) -> None:
        self.pieces[position] = data
        self.length = max(self.length, position + len(data))

    def seek(self, offset: int, whence: int = 0) -> int:
        self.position = offset + (0, self.position, self.length)[whence]
        return self.position

    def tell(self) -> int:
        return self.position

    def read(self, size: int | None = -1) -> bytes:
        rest = self.length - self.position
        count = rest if size is None or size < 0 else min(size, rest)
        result = bytearray(count)
        for start, data in self.pieces.items():
            for index, byte in enumerate(data):
                if 0 <= start + index - self.position < count:
                    result[start + index - self.position] = byte
        self.position += count
        return bytes(result)


def test_nesting_without_end_is_refused(tmp_path: Path) -> None:
    depth = 400
    structure = '{"a":[' + "[" * depth + "]" * depth + '],"w":{"$tensor":"w"}}'
    save_file({"w": torch.ones(1)}, tmp_path / "a.safetensors", metadata={"ckpt-doctor.structure": structure})
    limit = sys.getrecursionlimit()
    try:
        convert(tmp_path / "a.safetensors", to="bin")
    except ConversionError as error:
        assert "deep" in str(error) or "damaged" in str(error)
    else:
        assert load(tmp_path / "a.bin").keys() == {"a", "w"}
    assert sys.getrecursionlimit() == limit


MEASURED = """
import json, sys
from pathlib import Path
from ckpt_doctor import convert
result = convert(sys.argv[1], sys.argv[2], to="bin")
(kilobytes,) = [line.split()[1] for line in Path("/proc/self/status").open() if line.startswith("VmHWM")]
print(json.dumps([result.tensors, "torch" in sys.modules, "numpy" in sys.modules, int(kilobytes)]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="nothing says how much memory was used")
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    generator = random.Random(0)
    block = generator.randbytes(1 << 20)
    tensor = torch.frombuffer(bytearray(block * 300), dtype=torch.float16)
    save_file({"large": tensor}, tmp_path / "a.safetensors")
    command = [sys.executable, "-c", MEASURED, str(tmp_path / "a.safetensors"), str(tmp_path / "a.bin")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    tensors, torch_there, numpy_there, kilobytes = json.loads(done.stdout)
    assert (tensors, torch_there, numpy_there) == (1, False, False)
    assert kilobytes < 60 << 10
    with zipfile.ZipFile(tmp_path / "a.bin") as archive:
        assert archive.testzip() is None
