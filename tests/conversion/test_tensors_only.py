"""Tensors only: whole modules and TorchScript as their own ``state_dict()``, and plain values beside them."""

from __future__ import annotations

import argparse
import collections
import datetime
import pathlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from torch import nn

import ckpt_doctor
from ckpt_doctor.cli.root import cli
from ckpt_doctor.core.errors import ConversionError
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.repair import fix


class Cnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 2, 3, bias=False)
        self.bn = nn.BatchNorm2d(2)
        self.down = None
        self.body = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.Linear(3, 3), nn.ReLU()))
        self.register_buffer("mask", torch.ones(3), persistent=False)
        self.register_buffer("scale", torch.full((1,), 2.0))
        self.register_parameter("absent", None)
        self.anchors = torch.arange(4.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(self.bn(self.conv1(x)).mean((2, 3))) * self.mask * self.scale + self.anchors[0]


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.embed.weight
        self.again = self.embed

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.embed(x))


class Containers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList([nn.Linear(2, 2), nn.PReLU()])
        self.named = nn.ModuleDict({"a.b".replace(".", "_"): nn.Linear(2, 1)})
        self.list = nn.ParameterList([nn.Parameter(torch.randn(2)), nn.Parameter(torch.randn(3))])
        self.dict = nn.ParameterDict({"x": nn.Parameter(torch.randn(1))})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.parts[0](x)


def normed() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.utils.weight_norm(nn.Linear(3, 2))


def scaled() -> nn.Module:
    return nn.utils.spectral_norm(nn.Linear(3, 2))


MODULES: dict[str, Callable[[], nn.Module]] = {
    "cnn": Cnn,
    "tied": Tied,
    "containers": Containers,
    "lstm": lambda: nn.LSTM(3, 4, num_layers=2, bidirectional=True, proj_size=2),
    "gru": lambda: nn.Sequential(nn.GRU(3, 4)),
    "rnn": lambda: nn.RNN(3, 4, bias=False),
    "transformer": lambda: nn.Transformer(4, 2, 1, 1, 8, batch_first=True),
    "attention": lambda: nn.MultiheadAttention(4, 2, kdim=3, vdim=3),
    "parallel": lambda: nn.DataParallel(Cnn()),
    "weight norm": normed,
    "spectral norm": scaled,
    "batch norm without statistics": lambda: nn.BatchNorm1d(3, track_running_stats=False, affine=False),
    "group norm": lambda: nn.GroupNorm(1, 2),
    "bilinear": lambda: nn.Bilinear(2, 3, 4),
    "half": lambda: nn.Linear(2, 2).to(torch.bfloat16),
    "embedding bag": lambda: nn.EmbeddingBag(3, 2),
    "traced by fx": lambda: torch.fx.symbolic_trace(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))),
    "traced in part": lambda: nn.Sequential(torch.fx.symbolic_trace(nn.Linear(2, 3)), nn.Linear(3, 1)),
}
WITH_TENSORS = sorted(set(MODULES) - {"batch norm without statistics"})


def built(name: str) -> nn.Module:
    torch.manual_seed(0)
    return MODULES[name]()


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert list(found) == list(expected) or sorted(found) == sorted(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name


def repaired(path: Path) -> Any:
    """What torch's default loads after the fix, which must leave nothing to be said about the file."""
    result = fix(str(path), Policy(select=("CKD901", "CKD114")), unsafe=True)
    assert [step.finding.code for step in result.repairs[0].steps], result.repairs[0].rejected
    assert not [f for f in ckpt_doctor.inspect(path).findings if f.code in ("CKD901", "CKD114")]
    return torch.load(path, weights_only=True)


@pytest.mark.slow
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", WITH_TENSORS)
def test_converted_module(name: str, legacy: bool, tmp_path: Path) -> None:
    module = built(name)
    source = tmp_path / "whole.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the source of a class of this file
        torch.save(module, source, _use_new_zipfile_serialization=not legacy)
    listed = {tensor.name for tensor in ckpt_doctor.open_checkpoint(source).files[0].tensors}
    assert set(module.state_dict()) <= listed
    with pytest.raises(ConversionError, match=r"CKD901.*--tensors-only"):
        ckpt_doctor.convert(source, to="safetensors")
    ckpt_doctor.convert(source, to="safetensors", tensors_only=True)
    found = load_file(tmp_path / "whole.safetensors")
    same(found, module.state_dict())
    assert MODULES[name]().load_state_dict(found).missing_keys == []


@pytest.mark.parametrize("name", WITH_TENSORS)
def test_repaired_module(name: str, tmp_path: Path) -> None:
    module = built(name)
    torch.save(module, tmp_path / "whole.pt")
    found = repaired(tmp_path / "whole.pt")
    same(found, module.state_dict())
    MODULES[name]().load_state_dict(found)
    assert not any(tensor.requires_grad for tensor in found.values())


def test_what_lies_beside_the_state_dict_is_named(tmp_path: Path) -> None:
    torch.save(Cnn(), tmp_path / "whole.pt")
    report = ckpt_doctor.inspect(tmp_path / "whole.pt")
    (finding,) = [finding for finding in report.findings if finding.code == "CKD901"]
    assert finding.fix is not None
    assert "mask" in finding.fix.title and "anchors" in finding.fix.title
    outcome = ckpt_doctor.convert(tmp_path / "whole.pt", to="safetensors", tensors_only=True)
    dropped = " ".join(outcome.files[0].dropped)
    assert "mask" in dropped and "anchors" in dropped


def test_dictionary_that_holds_a_module(tmp_path: Path) -> None:
    module = Cnn()
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.randn(2, 1, 5, 5)).sum().backward()
    optimizer.step()
    state = {
        "model": module,
        "ema": {"shadow": [torch.ones(2), 3]},
        "optimizer": optimizer.state_dict(),
        "epoch": 7,
        "names": ["a", "b"],
        "best": np.float64(0.25),
        "classes": {0: "cat", 1: "dog"},
        "when": datetime.datetime(2026, 1, 1),
        "where": pathlib.PurePosixPath("/data/x"),
        "args": argparse.Namespace(lr=0.1, sizes=(1, 2)),
        "kept": frozenset(["x"]),
        "groups": collections.defaultdict(list, {"a": [1]}),
    }
    torch.save(state, tmp_path / "run.pt")
    found = repaired(tmp_path / "run.pt")
    same(found["model"], module.state_dict())
    assert torch.equal(found["ema"]["shadow"][0], torch.ones(2)) and found["ema"]["shadow"][1] == 3
    optimizer.load_state_dict(found["optimizer"])
    assert found["epoch"] == 7 and found["names"] == ["a", "b"] and found["classes"] == {0: "cat", 1: "dog"}
    assert found["best"] == 0.25 and type(found["best"]) is float
    assert found["where"] == "/data/x" and found["args"] == {"lr": 0.1, "sizes": (1, 2)}
    assert found["kept"] == ["x"] and found["groups"] == {"a": [1]}
    assert "when" not in found


def test_left_out_values_are_named(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2), "when": datetime.datetime(2026, 1, 1), "a": np.zeros(2)}, tmp_path / "x.pt")
    (finding,) = [f for f in ckpt_doctor.inspect(tmp_path / "x.pt").findings if f.code == "CKD114"]
    assert finding.fix is not None
    assert "when (datetime.datetime)" in finding.fix.title and "a (numpy.ndarray)" in finding.fix.title
    assert list(repaired(tmp_path / "x.pt")) == ["w"]


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.float32(0.5), 0.5),
        (np.int64(-3), -3),
        (np.bool_(True), True),
        (np.float16(2), 2.0),
        (np.uint8(255), 255),
        (np.complex128(1 + 2j), 1 + 2j),
        (pathlib.PureWindowsPath("C:/x"), "C:\\x"),
        (range(3), [0, 1, 2]),
        (collections.deque([1, 2]), [1, 2]),
        ({1, 2}, [1, 2]),
        (collections.Counter("aab"), collections.OrderedDict(a=2, b=1)),
        (torch.device("cuda", 1), "cuda:1"),
        (b"abc", b"abc"),
        (torch.float16, torch.float16),
        (torch.Size([2, 3]), (2, 3)),
    ],
    ids=repr,
)
def test_plain_forms(value: Any, plain: Any, tmp_path: Path) -> None:
    # A date makes torch's default refuse the file, whatever stands beside it.
    torch.save({"w": torch.ones(2), "value": value, "date": datetime.date(2026, 1, 1)}, tmp_path / "x.pt")
    found = repaired(tmp_path / "x.pt")["value"]
    assert found == plain and type(found) is type(plain)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["script", "trace"])
@pytest.mark.parametrize("name", ["cnn", "tied", "containers", "lstm", "gru", "rnn", "half"])
def test_torchscript(name: str, how: str, tmp_path: Path) -> None:
    inputs = {"cnn": torch.randn(2, 1, 5, 5), "tied": torch.tensor([1]), "lstm": torch.randn(2, 1, 3)}
    inputs |= {"gru": torch.randn(2, 1, 3), "rnn": torch.randn(2, 1, 3), "half": torch.randn(1, 2).bfloat16()}
    module = built(name).eval()
    given = inputs.get(name, torch.randn(1, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated, and still what many files are made by
        made = torch.jit.script(module) if how == "script" else torch.jit.trace(module, given)
        torch.jit.save(made, tmp_path / "program.pt")
        expected = made.state_dict()
    report = ckpt_doctor.inspect(tmp_path / "program.pt")
    assert [finding.code for finding in report.findings] == ["CKD904"]
    assert "--tensors-only" in report.findings[0].message
    (file,) = ckpt_doctor.open_checkpoint(tmp_path / "program.pt").files
    assert file.format == "torchscript"
    assert [t.name for t in file.tensors if t.name not in file.outside] == list(expected)
    with pytest.raises(ConversionError, match=r"CKD904.*--tensors-only"):
        ckpt_doctor.convert(tmp_path / "program.pt", to="safetensors")
    ckpt_doctor.convert(tmp_path / "program.pt", to="safetensors", tensors_only=True)
    same(load_file(tmp_path / "program.safetensors"), expected)


def test_the_command_needs_safetensors(tmp_path: Path) -> None:
    torch.save(nn.Linear(1, 1), tmp_path / "whole.pt")
    result = CliRunner().invoke(cli, ["convert", str(tmp_path / "whole.pt"), "--to", "bin", "--tensors-only"])
    assert result.exit_code == 2
    assert "--to safetensors" in result.output
    assert list(tmp_path.iterdir()) == [tmp_path / "whole.pt"]


def test_a_module_without_tensors_is_refused(tmp_path: Path) -> None:
    torch.save(built("batch norm without statistics"), tmp_path / "whole.pt")
    with pytest.raises(ConversionError, match="no tensors"):
        ckpt_doctor.convert(tmp_path / "whole.pt", to="safetensors", tensors_only=True)


def test_damage_is_no_matter_of_classes(tmp_path: Path) -> None:
    torch.save(nn.Linear(8, 8), tmp_path / "whole.pt")
    data = (tmp_path / "whole.pt").read_bytes()
    (tmp_path / "whole.pt").write_bytes(data[: len(data) // 2])
    with pytest.raises(ConversionError):
        ckpt_doctor.convert(tmp_path / "whole.pt", to="safetensors", tensors_only=True)
