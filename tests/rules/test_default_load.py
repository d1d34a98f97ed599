"""CKD114 and CKD901 against ``torch.load`` itself: where its default stops, at what, and in which order."""

from __future__ import annotations

import argparse
import collections
import datetime
import decimal
import enum
import fractions
import functools
import importlib
import io
import json
import pathlib
import re
import types
import typing
import uuid
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig
from torch import nn
from transformers import TrainingArguments
from transformers.trainer_utils import SchedulerType

import ckpt_doctor
from ckpt_doctor.core.findings import Severity


class Colour(enum.Enum):
    RED = 1


class OwnDict(dict):  # type: ignore[type-arg]
    pass


class OwnOrdered(collections.OrderedDict):  # type: ignore[type-arg]
    pass


class OwnList(list):  # type: ignore[type-arg]
    pass


class Point(typing.NamedTuple):
    x: int


def recursive() -> list[Any]:
    made: list[Any] = [1]
    made.append(made)
    return made


def with_attribute() -> torch.Tensor:
    tensor = torch.ones(2)
    tensor.note = "hello"  # type: ignore[attr-defined]
    return tensor


def jagged() -> torch.Tensor:
    importlib.import_module("torch._dynamo")
    return torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(1, 3)], layout=torch.jagged)


T = torch.ones(2)
OBJECTS: dict[str, Any] = {
    "dict": {"w": T},
    "parameter": {"w": nn.Parameter(T)},
    "ordered": collections.OrderedDict(w=T),
    "set": {"s": {1, 2}},
    "complex": {"c": 1 + 2j},
    "bytes": {"b": b"abc"},
    "no bytes": {"b": b""},
    "bytearray": {"b": bytearray(b"x")},
    "counter": collections.Counter("abc"),
    "size": {"s": torch.Size([1])},
    "device": {"d": torch.device("cpu")},
    "dtype": {"d": torch.float16},
    "none": None,
    "large number": {"i": 10**30},
    "very large number": {"i": 1 << 5000},
    "nan": {"f": float("nan")},
    "tuple": (1, (T,)),
    "sparse": torch.eye(3).to_sparse(),
    "meta": torch.ones(2, device="meta"),
    "float8": {"w": T.to(torch.float8_e4m3fn)},
    "uint16": {"w": T.to(torch.uint16)},
    "conjugate": torch.ones(2, dtype=torch.complex64).conj(),
    "attribute": {"w": with_attribute()},
    "buffer": {"w": nn.Buffer(T)},
    "generator": {"g": torch.Generator().get_state()},
    "layout": {"l": torch.strided},
    "float64": {"x": np.float64(0.25)},
    "float32": {"x": np.float32(0.25)},
    "int64": {"x": np.int64(3)},
    "bool": {"x": np.bool_(True)},
    "array": {"x": np.arange(3)},
    "fortran array": {"x": np.zeros((2, 2), order="F")},
    "text array": {"x": np.array(["a"])},
    "text": {"x": np.str_("a")},
    "object array": {"x": np.array([1, "a", None], dtype=object)},
    "datetime64": {"x": np.datetime64("2020-01-01")},
    "struct array": {"x": np.zeros(2, dtype=[("a", "f4"), ("b", "i8")])},
    "numpy dtype": {"d": np.dtype("float32")},
    "numpy type": {"d": np.float32},
    "numpy state": {"r": np.random.get_state()},
    "several of numpy": {"x": np.float64(1), "y": np.int32(1), "z": np.zeros(2, dtype=np.float16)},
    "defaultdict": {"d": collections.defaultdict(list, {"a": [1]})},
    "empty defaultdict": {"d": collections.defaultdict(int)},
    "defaultdict as a whole": collections.defaultdict(dict, {0: {"s": T}}),
    "deque": {"d": collections.deque([1, 2])},
    "empty deque": {"d": collections.deque()},
    "frozenset": {"f": frozenset([1])},
    "path": {"p": pathlib.PurePosixPath("/x")},
    "datetime": {"d": datetime.datetime(2020, 1, 1)},
    "zone": {"d": datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)},
    "range": {"r": range(3)},
    "slice": {"r": slice(1, 2)},
    "ellipsis": {"r": ...},
    "namespace": {"a": argparse.Namespace(lr=0.1, path=pathlib.PurePosixPath("a"))},
    "simple namespace": {"a": types.SimpleNamespace(a=1)},
    "decimal": decimal.Decimal("1.5"),
    "fraction": fractions.Fraction(1, 3),
    "uuid": uuid.UUID(int=5),
    "type": {"t": int},
    "any": {"t": typing.Any},
    "object": object(),
    "many": {
        "a": datetime.date(2020, 1, 1),
        "b": np.float32(1),
        "c": pathlib.PurePosixPath("x"),
        "d": frozenset([2]),
        "e": range(2),
    },
    "recursive": recursive(),
    "module": nn.Linear(2, 2),
    "module in a dict": {"m": nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)), "e": frozenset()},
    "function": {"f": nn.functional.relu},
    "partial": functools.partial(int, base=2),
    "own enum": {"c": Colour.RED},
    "own dict": OwnDict(a=1),
    "own ordered dict": OwnOrdered(a=1),
    "own list": OwnList([1]),
    "named tuple": Point(2),
    "scheduler type": {"s": SchedulerType.LINEAR},
    "lora": {"c": LoraConfig(r=2, task_type="CAUSAL_LM", target_modules=["q"])},
    "class": {"a": TrainingArguments},
}
FORMS: dict[str, dict[str, Any]] = {
    "zip": {},
    "legacy": {"_use_new_zipfile_serialization": False},
    "protocol 3": {"pickle_protocol": 3},
    "protocol 4": {"pickle_protocol": 4},
}
CASES = [(name, form) for name in OBJECTS for form in FORMS]


def resolved(name: str) -> Any:
    """The object of a dotted name as torch prints it."""
    words = (name if "." in name else f"builtins.{name}").split(".")
    for length in range(len(words) - 1, 0, -1):
        try:
            made = importlib.import_module(".".join(words[:length]))
        except ImportError:
            continue
        return functools.reduce(getattr, words[length:], made)
    raise AssertionError(name)


def complaints(data: bytes) -> tuple[list[str], bool]:
    """What torch.load's default asks to be allowed, one after the other, and whether it loads the file then."""
    names: list[str] = []
    allowed: list[Any] = []
    while True:
        try:
            with torch.serialization.safe_globals(allowed):
                torch.load(io.BytesIO(data), weights_only=True)
            return names, True
        except Exception as problem:  # pickles end in every kind of error
            text = str(problem)
        found = re.search(r"Unsupported global: GLOBAL (\S+) was not", text)
        found = found or re.search(r"but got <class '(numpy\.dtypes\.\w+)'>", text)
        if found is None or found[1] in names:
            return names, False
        names.append(found[1])
        allowed.append((resolved(found[1]), found[1] if "." in found[1] else f"builtins.{found[1]}"))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "form"), CASES)
@pytest.mark.filterwarnings("ignore")
def test_as_torch_says(name: str, form: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save(OBJECTS[name], path, **FORMS[form])
    names, loads = complaints(path.read_bytes())
    found = {f.code: f for f in ckpt_doctor.inspect(path).findings if f.code in ("CKD114", "CKD901")}
    if loads and not names:
        assert not found
        return
    assert len(found) == 1
    (finding,) = found.values()
    evidence = finding.evidence
    ours = evidence["names"] if finding.code == "CKD114" else evidence["refused"]
    assert ours[: len(names)] == names
    assert all(each in finding.message for each in names) or len(names) > 20
    if finding.code == "CKD114":
        assert (evidence["not_helped"] == []) is loads
        assert evidence["add_safe_globals"] == (names if loads else [])
        assert finding.severity is Severity.WARNING


def test_jagged_tensors_are_torchs_own(tmp_path: Path) -> None:
    torch.save({"x": jagged()}, tmp_path / "x.pt")
    assert not ckpt_doctor.inspect(tmp_path / "x.pt").findings
    (file,) = ckpt_doctor.open_checkpoint(tmp_path / "x.pt").files
    assert [tensor.name for tensor in file.tensors] == ["x.values", "x.offsets"]


@pytest.mark.parametrize("shard", [False, True])
def test_distributed_tensors_share_no_weights(shard: bool, tmp_path: Path) -> None:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor, Replicate, Shard
    from torch.testing._internal.distributed.fake_pg import FakeStore

    torch.distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    try:
        mesh = DeviceMesh("cpu", torch.arange(2))
        placement = Shard(0) if shard else Replicate()
        state = {name: DTensor.from_local(torch.ones(2, 3), mesh, [placement], run_check=False) for name in "ab"}
        torch.save(state, tmp_path / "x.pt")
        torch.save(state, tmp_path / "y.pt", _use_new_zipfile_serialization=False)
    finally:
        torch.distributed.destroy_process_group()
    for name in ("x.pt", "y.pt"):
        assert {finding.code for finding in ckpt_doctor.inspect(tmp_path / name).findings} <= {"CKD110"}
        (file,) = ckpt_doctor.open_checkpoint(tmp_path / name).files
        expected = ["a._local_tensor", "b._local_tensor"] if shard else ["a", "b"]
        assert [tensor.name for tensor in file.tensors] == expected


def adapter(folder: Path, **extra: Any) -> Path:
    folder.mkdir()
    config = {"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"], "base_model_name_or_path": "some/base"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    prefix = "base_model.model.model.layers.0.self_attn.q_proj"
    state = {f"{prefix}.lora_A.weight": torch.ones(2, 8), f"{prefix}.lora_B.weight": torch.ones(8, 2)}
    torch.save({**state, **extra}, folder / "adapter_model.bin")
    return folder


def test_an_error_where_peft_opens_the_file(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "adapter", saved=datetime.date(2026, 1, 1))
    (finding,) = [f for f in ckpt_doctor.inspect(folder).findings if f.code == "CKD114"]
    assert finding.severity is Severity.ERROR
    assert "add_safe_globals([datetime.date])" in finding.message
    assert not [f for f in ckpt_doctor.inspect(adapter(tmp_path / "healthy")).findings if f.code == "CKD114"]


def test_a_warning_where_the_other_format_is_read(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    folder = adapter(tmp_path / "adapter", saved=datetime.date(2026, 1, 1))
    state = torch.load(folder / "adapter_model.bin", weights_only=False)
    del state["saved"]
    save_file(state, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    (finding,) = [f for f in ckpt_doctor.inspect(folder).findings if f.code == "CKD114"]
    assert finding.severity is Severity.WARNING


def test_a_note_in_training_state(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "adapter")
    torch.save({"state": {0: {"step": torch.ones(())}}, "lr": np.float64(0.1)}, folder / "optimizer.pt")
    (finding,) = [f for f in ckpt_doctor.inspect(folder).findings if f.code == "CKD114"]
    assert finding.severity is Severity.NOTE and finding.path == "optimizer.pt"


def test_every_global_is_named(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = nn.Transformer(4, 2, 1, 1, 8, batch_first=True)
        torch.save({"m": model, "when": datetime.date(2026, 1, 1)}, tmp_path / "x.pt")
    names, _ = complaints((tmp_path / "x.pt").read_bytes())
    (finding,) = [f for f in ckpt_doctor.inspect(tmp_path / "x.pt").findings if f.code == "CKD901"]
    assert finding.evidence["refused"] == names
    assert len(names) > 5
    unsafe = [entry["name"].replace(" ", ".") for entry in finding.evidence["globals"]]
    assert unsafe == [name for name in names if name != "datetime.date"]
    assert all(name in finding.message for name in unsafe)
