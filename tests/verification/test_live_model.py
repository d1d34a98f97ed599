"""A live model is looked through once, whatever is asked about it afterwards."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from ckpt_doctor.verification.model.live import LiveModel


class Holder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = get_peft_model(nn.Sequential(nn.Linear(2, 2)), LoraConfig(r=1, target_modules=["0"]))
        self.two = nn.BatchNorm1d(2)


def test_tensors_are_parameters_and_statistics() -> None:
    live = LiveModel(Holder())
    assert live.tensors.keys() - live.parameters == {
        "two.running_mean",
        "two.running_var",
        "two.num_batches_tracked",
    }
    assert [path for path, _ in live.adapted] == ["one"]


def test_each_is_collected_once(monkeypatch: pytest.MonkeyPatch) -> None:
    live = LiveModel(Holder())
    first = live.tensors, live.parameters, live.adapted
    monkeypatch.setattr(nn.Module, "named_modules", None)
    monkeypatch.setattr(nn.Module, "named_parameters", None)
    assert (live.tensors, live.parameters, live.adapted) == first


def test_values_are_those_of_the_model_now() -> None:
    module = nn.Linear(2, 2)
    live = LiveModel(module)
    assert live.tensors.keys() == {"weight", "bias"}
    with torch.no_grad():
        module.weight.fill_(3)
    assert live.tensors["weight"].eq(3).all()
