"""What a new model holds anyway counts as loaded only where the load wrote it, whoever made the parameters."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, load_model, save_file
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

import ckpt_doctor
from ckpt_doctor.core.coverage import Coverage
from ckpt_doctor.verification import verify
from support.zoo.common import quiet

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

CONFIG = LlamaConfig(
    vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, use_cache=False
)


class Net(nn.Module):
    """Layers that begin with constants: norms, biases, statistics, a scale by layer, a weight norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.batch = nn.BatchNorm2d(8)
        self.norm = nn.LayerNorm(8)
        self.scale = nn.Parameter(1e-5 * torch.ones(8))
        self.zeros = nn.Parameter(torch.zeros(4, 8))
        self.shift = nn.Parameter(torch.empty(6))
        self.head = nn.utils.parametrizations.weight_norm(nn.Linear(8, 2))
        nn.init.constant_(self.shift, 0.5)
        nn.init.zeros_(self.head.bias)


CONSTANTS = {
    *("batch.weight", "batch.bias", "batch.running_mean", "batch.running_var", "norm.weight", "norm.bias"),
    *("scale", "zeros", "shift", "head.bias"),
}


@pytest.fixture
def net(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "net.safetensors"
    save_file(Net().state_dict(), path, metadata={"format": "pt"})
    return path


def lost(coverage: Coverage) -> set[str]:
    return {item.name for item in coverage.not_restored()}


def into_new(path: str) -> Any:
    model = Net()
    model.load_state_dict(load_file(path))
    return model


def assigned(path: str) -> Any:
    with torch.device("meta"):
        model = Net()
    model.load_state_dict(load_file(path), assign=True)
    return model


def materialised(path: str) -> Any:
    with torch.device("meta"):
        model = Net()
    model.to_empty(device="cpu")
    model.load_state_dict(load_file(path))
    return model


def by_library(path: str) -> Any:
    model = Net()
    load_model(model, path)
    return model


def by_loop(path: str) -> Any:
    model = Net()
    state = model.state_dict()
    for name, value in load_file(path).items():
        state[name].copy_(value)
    return model


def by_numpy(path: str) -> Any:
    model = Net()
    for name, value in load_file(path).items():
        model.state_dict()[name].numpy()[...] = value.numpy()
    return model


def by_numpy_into_new_memory(path: str) -> Any:
    model = Net()
    for name, value in load_file(path).items():
        memory = torch.zeros(value.shape, dtype=value.dtype)
        memory.numpy()[...] = value.numpy()
        home, _, last = name.rpartition(".")
        module = model.get_submodule(home)
        if last in module._parameters:
            setattr(module, last, nn.Parameter(memory))
        else:
            setattr(module, last, memory)
    return model


def in_thread(path: str) -> Any:
    model = Net()
    worker = threading.Thread(target=lambda: model.load_state_dict(load_file(path)))
    worker.start()
    worker.join(60)
    return model


def cast_and_copied(path: str) -> Any:
    return copy.deepcopy(into_new(path)).double()


def frozen(path: str) -> Any:
    model = Net().requires_grad_(False).eval()
    model.load_state_dict(load_file(path))
    return model


@pytest.mark.slow
@pytest.mark.parametrize(
    "factory",
    [
        *(into_new, assigned, materialised, by_library, by_loop, by_numpy, by_numpy_into_new_memory),
        *(in_thread, cast_and_copied, frozen),
    ],
)
def test_right_loads_are_complete(net: Path, factory: Callable[[str], Any]) -> None:
    coverage = verify(str(net), factory)
    assert coverage.complete, [*coverage.table(), *coverage.not_restored()]
    assert ckpt_doctor.load_coverage(factory(str(net)), net).complete


def partly(*skipped: str) -> Callable[[str], Any]:
    def factory(path: str) -> Any:
        model = Net()
        state = load_file(path)
        model.load_state_dict({k: v for k, v in state.items() if not k.startswith(skipped)}, strict=False)
        return model

    return factory


@pytest.mark.slow
@pytest.mark.parametrize("after", [lambda model: model, copy.deepcopy, lambda model: model.double()])
@pytest.mark.parametrize(
    "skipped",
    [
        *(("norm",), ("batch", "zeros"), ("scale", "shift"), ("head.bias",), ("batch.num_batches",)),
        ("batch.weight", "batch.bias", "batch.running"),
    ],
)
def test_exactly_what_was_skipped_is_missing(net: Path, skipped: tuple[str, ...], after: Callable[[Any], Any]) -> None:
    coverage = verify(str(net), lambda path: after(partly(*skipped)(path)))
    assert lost(coverage) == {item.name for item in coverage.tensors if item.name.startswith(skipped)}


def test_a_model_that_begins_again_is_not_loaded(net: Path) -> None:
    def starts_over(model: Any, path: str) -> Any:
        for module in (model.batch, model.norm):
            module.reset_parameters()
        return model

    assert verify(str(net), Net, loader=starts_over).restored == 0


def test_nothing_is_left_of_the_marks(net: Path) -> None:
    model = nn.ModuleDict()
    with ckpt_doctor.watch_load(model, net) as watch:
        model["net"] = copy.deepcopy(partly("")(str(net)))
        model["short"] = partly("")(str(net)).bfloat16()
    assert watch.restored == 0
    torch.manual_seed(0)
    new = Net().state_dict()
    for key in ("net", "short"):
        state = model[key].state_dict()
        assert all(torch.equal(state[name], new[name].to(state[name].dtype)) for name in CONSTANTS)


def test_a_load_that_ends_with_an_exception_leaves_no_marks(net: Path) -> None:
    model = nn.ModuleDict()
    with pytest.raises(KeyError), ckpt_doctor.watch_load(model, net):
        model["net"] = Net()
        raise KeyError
    assert bool((model["net"].norm.weight == 1).all())


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    torch.manual_seed(0)
    quiet(LlamaForCausalLM(CONFIG).save_pretrained)(folder)
    return folder


@pytest.mark.slow
def test_norms_of_a_model_whose_names_do_not_fit(llama: Path, tmp_path: Path) -> None:
    quiet(LlamaForCausalLM(CONFIG).save_pretrained)(tmp_path)
    file = tmp_path / "model.safetensors"
    save_file({f"wrong.{name}": value for name, value in load_file(file).items()}, file, metadata={"format": "pt"})
    assert verify(str(tmp_path)).restored == 0
    assert verify(str(llama)).complete


@pytest.mark.slow
@pytest.mark.parametrize("renamed", [False, True])
def test_an_adapter_whose_second_matrix_is_still_zero(llama: Path, tmp_path: Path, renamed: bool) -> None:
    base = LlamaForCausalLM.from_pretrained(llama)
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    quiet(peft.get_peft_model(base, config).save_pretrained)(tmp_path)
    if renamed:
        file = tmp_path / "adapter_model.safetensors"
        state = {name.removeprefix("base_model.model."): value for name, value in load_file(file).items()}
        save_file(state, file, metadata={"format": "pt"})
    expected = 0 if renamed else 4
    assert verify(str(tmp_path), str(llama)).restored == expected

    def load(model: Any, path: str) -> Any:
        return peft.PeftModel.from_pretrained(model, path)

    def build() -> Any:
        return LlamaForCausalLM.from_pretrained(llama)

    assert verify(str(tmp_path), build, loader=load).restored == expected
    assert verify(str(tmp_path), lambda path: load(build(), path)).restored == expected


def test_an_adapter_that_was_only_made(llama: Path, tmp_path: Path) -> None:
    base = LlamaForCausalLM.from_pretrained(llama)
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    quiet(peft.get_peft_model(base, config).save_pretrained)(tmp_path)
    model = LlamaForCausalLM.from_pretrained(llama)
    torch.manual_seed(1)  # other random values than the saved ones
    with ckpt_doctor.watch_load(model, tmp_path) as watch:
        adapted = peft.get_peft_model(model, config)
    assert watch.restored == 0
    assert not any(bool(value.any()) for name, value in adapted.named_parameters() if "lora_B" in name)
    # Afterwards nobody can see it, and nothing else of these modules arrived.
    coverage = ckpt_doctor.load_coverage(adapted, tmp_path)
    assert coverage.restored == 0 and any("a new model holds the same" in item.detail for item in coverage.tensors)


def test_what_cannot_be_told_afterwards_is_said(net: Path) -> None:
    coverage = ckpt_doctor.load_coverage(into_new(str(net)), net)
    assert coverage.complete and any("cannot be told afterwards" in line for line in coverage.log)
    assert any("it is unknown whether a load wrote" in item.detail for item in coverage.tensors)
    assert ckpt_doctor.load_coverage(Net(), net).restored == 0


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.rnn = nn.LSTM(4, 4)
        self.register_buffer("mask", torch.ones(4), persistent=False)
        self.note = torch.zeros(3)


@pytest.mark.slow
def test_a_module_that_was_pickled_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "whole.pt"
    torch.save({"model": Recurrent(), "epoch": 3}, path)

    def load(model: Any, path: str) -> Any:
        return torch.load(path, weights_only=False)["model"]

    coverage = verify(str(path), Recurrent, loader=load, trust_checkpoint=True)
    assert coverage.complete and coverage.expected == 9
    nothing = verify(str(path), Recurrent, loader=lambda model, path: model, trust_checkpoint=True)
    assert nothing.restored == 0


class Turning(nn.Module):
    """Beside a norm a complex number by channel, as models of sound and of rotary positions have."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(2)
        self.turns = nn.Parameter(torch.ones(2, dtype=torch.complex64))


@pytest.mark.slow
@pytest.mark.parametrize("skipped", [set(), {"norm.bias"}, {"turns"}], ids=str)
def test_complex_parameters_beside_new_ones(skipped: set[str], tmp_path: Path) -> None:
    path = tmp_path / "turning.pt"
    trained = {**Turning().state_dict(), "turns": torch.tensor([1 + 2j, 3j])}
    torch.save(trained, path)

    def load(model: Any, path: str) -> Any:
        made = Turning()  # marked as it is made
        made.load_state_dict({k: v for k, v in torch.load(path).items() if k not in skipped}, strict=False)
        return made

    assert lost(verify(str(path), Turning, loader=load)) == skipped
