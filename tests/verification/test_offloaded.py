"""What accelerate keeps on disk or in a dictionary is part of the model, though its parameters are on meta."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import accelerate
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import ckpt_doctor
from ckpt_doctor.core.coverage import Coverage
from ckpt_doctor.verification import verify


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)
        self.rest = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))


def hollow() -> Net:
    with accelerate.init_empty_weights():
        return Net()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    state = {name: torch.randn(value.shape).to(value.dtype) for name, value in Net().state_dict().items()}
    save_file(state, tmp_path / "net.safetensors", metadata={"format": "pt"})
    return tmp_path / "net.safetensors"


def lost(coverage: Coverage) -> set[str]:
    return {item.name for item in coverage.not_restored()}


@pytest.mark.slow
@pytest.mark.parametrize("build", [Net, hollow])
@pytest.mark.parametrize("where", [("cpu", "cpu", "cpu"), ("disk", "cpu", "cpu"), ("cpu", "disk", "disk")], ids=str)
def test_a_dispatched_model_is_complete(build: Callable[[], Net], where: tuple[str, str, str], saved: Path) -> None:
    def load(model: Any, path: str) -> Any:
        places = dict(zip(("first", "norm", "rest"), where, strict=True))
        folder = str(saved.parent / "kept")
        return accelerate.load_checkpoint_and_dispatch(
            model, path, device_map=places, offload_folder=folder, offload_buffers=True
        )

    coverage = verify(str(saved), build, loader=load)
    assert coverage.complete, [*coverage.table(), *coverage.findings]


def kept_in_memory(*skipped: str) -> Callable[[Any, str], Any]:
    def load(model: Any, path: str) -> Any:
        state = {name: value for name, value in load_file(path).items() if name not in skipped}
        model.load_state_dict(state, strict=False)
        return accelerate.cpu_offload(model, execution_device="cpu")

    return load


@pytest.mark.slow
@pytest.mark.parametrize("skipped", [(), ("norm.weight",), ("norm.bias", "rest.0.weight")], ids=str)
def test_exactly_what_was_skipped_is_missing(skipped: tuple[str, ...], saved: Path) -> None:
    assert lost(verify(str(saved), Net, loader=kept_in_memory(*skipped))) == set(skipped)
    assert lost(ckpt_doctor.load_coverage(kept_in_memory(*skipped)(Net(), str(saved)), saved)) == set(skipped)


def test_values_that_nobody_keeps_are_missing(saved: Path) -> None:
    assert lost(ckpt_doctor.load_coverage(Net().to("meta"), saved)) == set(load_file(saved))
