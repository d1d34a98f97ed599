"""What cannot be taken for a load, and what a watched model looks like afterwards, whatever the block did to it."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import ckpt_doctor
from ckpt_doctor.verification import verify
from ckpt_doctor.verification.values import marks

# PEFT asks transformers for a property that will have another name some day.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 3)
        self.second = nn.Linear(3, 2, bias=False)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Two, Path]:
    """A model, and a file of its weights."""
    torch.manual_seed(0)
    model = Two()
    save_file(model.state_dict(), tmp_path / "two.safetensors", metadata={"format": "pt"})
    return model, tmp_path / "two.safetensors"


def is_as_before(model: nn.Module, before: dict[str, torch.Tensor], dtype: torch.dtype = torch.float32) -> bool:
    return all(torch.equal(value, before[name].to(dtype)) for name, value in model.state_dict().items())


def in_module_dict(model: nn.Module) -> nn.Module:
    return nn.ModuleDict({"inner": model})


def copied_into(model: nn.Module) -> nn.Module:
    return nn.ModuleDict({"inner": copy.deepcopy(model)})


def adapted(model: nn.Module) -> Any:
    return peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["first"]))


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile, in_module_dict, copied_into, adapted, copy.deepcopy])
def test_a_wrapper_around_the_model_is_no_load(saved: tuple[Two, Path], wrap: Callable[[Any], Any]) -> None:
    model, path = saved
    before = copy.deepcopy(model.state_dict())
    returned = []

    def loader(given: nn.Module, path: str) -> Any:
        returned.append(wrap(given))
        return returned[0]

    coverage = verify(path, model, loader=loader)
    assert (coverage.restored, coverage.expected) == (0, 3)
    assert all("did not write" in item.detail for item in coverage.tensors)
    there = [value for name, value in returned[0].state_dict().items() if name.endswith("second.weight")]
    assert torch.equal(there[0], before["second.weight"])

    def right(given: nn.Module, path: str) -> Any:
        given.load_state_dict(load_file(path))
        return wrap(given)

    assert verify(path, Two(), loader=right).complete


def half(model: Two) -> None:
    model.half()


def wrapped_anew(model: Two) -> None:
    for layer in (model.first, model.second):
        layer.weight = nn.Parameter(layer.weight.detach())


def deep_copied(model: Two) -> None:
    model.first, model.second = copy.deepcopy(model.first), copy.deepcopy(model.second)


@pytest.mark.parametrize("change", [half, wrapped_anew, deep_copied])
@pytest.mark.parametrize("fails", [False, True])
def test_marks_are_found_again(saved: tuple[Two, Path], change: Callable[[Two], None], fails: bool) -> None:
    model, path = saved
    before = copy.deepcopy(model.state_dict())
    if fails:
        with pytest.raises(KeyError), ckpt_doctor.watch_load(model, path):
            change(model)
            raise KeyError
    else:
        with ckpt_doctor.watch_load(model, path) as watch:
            change(model)
        assert watch.restored == 0
    assert is_as_before(model, before, torch.float16 if change is half else torch.float32)


def test_another_adapter_of_the_same_shape_is_left_alone(tmp_path: Path) -> None:
    config = peft.LoraConfig(r=2, target_modules=["first"], init_lora_weights=False)
    peft.get_peft_model(Two(), config).save_pretrained(tmp_path)
    model = peft.get_peft_model(Two(), config, adapter_name="one")
    model.add_adapter("two", config)
    model.set_adapter("two")
    # It holds what is to be loaded into the other one.
    peft.set_peft_model_state_dict(model, peft.load_peft_weights(str(tmp_path)), adapter_name="one")
    before = copy.deepcopy(model.state_dict())
    with ckpt_doctor.watch_load(model, tmp_path) as watch:
        peft.set_peft_model_state_dict(model, peft.load_peft_weights(str(tmp_path)), adapter_name="two")
        model.to(torch.bfloat16)
    assert watch.complete
    after = {name: value for name, value in model.state_dict().items() if ".one." in name}
    assert after and all(torch.equal(value, before[name].bfloat16()) for name, value in after.items())


def test_a_backward_pass_goes_on_after_an_empty_block(saved: tuple[Two, Path]) -> None:
    model, path = saved
    loss = model.second(model.first(torch.ones(1, 4))).sum()
    with ckpt_doctor.watch_load(model, path):
        pass
    loss.backward()
    assert model.first.weight.grad is not None


def test_ctrl_c_while_marks_are_placed(saved: tuple[Two, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    model, path = saved
    before = copy.deepcopy(model.state_dict())
    write, calls = marks._write, []

    def interrupted(*given: Any) -> None:
        calls.append(given)
        write(*given)
        if len(calls) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(marks, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt), ckpt_doctor.watch_load(model, path):
        pass
    assert len(calls) == 8  # as many to put back
    assert is_as_before(model, before)


def test_a_value_of_several_parameters_comes_out_as_it_was(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    settings = {"vocab_size": 20, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    base = LlamaForCausalLM(LlamaConfig(**settings, **heads))
    config = peft.CartridgeConfig(num_virtual_tokens=3, num_frozen_tokens=1, task_type="CAUSAL_LM")
    model = peft.get_peft_model(base, config)
    with torch.no_grad():
        for value in model.prompt_encoder.parameters():
            value.normal_()
    model.save_pretrained(tmp_path)
    before = copy.deepcopy(model.state_dict())
    with ckpt_doctor.watch_load(model, tmp_path) as watch:
        pass
    assert watch.restored == 0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    "dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.bool, torch.uint8, torch.int8, torch.int64, torch.complex64]
)
def test_all_dtypes_can_be_marked(tmp_path: Path, dtype: torch.dtype) -> None:
    values = (torch.arange(16.0) - 8).reshape(4, 4).to(dtype)
    save_file({"w": values}, tmp_path / "w.safetensors")
    model = nn.Module()
    model.register_buffer("w", values.clone())
    with ckpt_doctor.watch_load(model, tmp_path / "w.safetensors") as watch:
        pass
    assert (watch.restored, watch.expected) == (0, 1)
    as_bytes = model.w.view(torch.uint8)
    assert torch.equal(as_bytes, values.view(torch.uint8))
    with ckpt_doctor.watch_load(model, tmp_path / "w.safetensors") as watch:
        model.w.copy_(values)
    assert watch.complete


def test_tensors_of_inference_mode_can_be_marked(saved: tuple[Two, Path]) -> None:
    _, path = saved
    with torch.inference_mode():
        model = Two()
        model.load_state_dict(load_file(path), assign=True)
        model.first.weight = nn.Parameter(model.first.weight.clone(), requires_grad=False)
    before = copy.deepcopy(load_file(path))
    with ckpt_doctor.watch_load(model, path) as watch:
        pass
    assert watch.restored == 0
    assert is_as_before(model, before)


class Stubborn(torch.Tensor):
    """A tensor that cannot be written to."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.copy_:
            raise RuntimeError("read only")
        return super().__torch_function__(func, types, args, kwargs or {})


def test_what_cannot_be_marked_proves_nothing(saved: tuple[Two, Path]) -> None:
    model, path = saved
    model.second.register_buffer("stubborn", torch.ones(2).as_subclass(Stubborn))
    save_file({**load_file(path), "second.stubborn": torch.ones(2)}, path)
    with ckpt_doctor.watch_load(model, path) as watch:
        model.first.load_state_dict({name: load_file(path)[f"first.{name}"] for name in ("weight", "bias")})
        model.second.weight = nn.Parameter(load_file(path)["second.weight"])
    found = next(item for item in watch.tensors if item.name == "second.stubborn")
    assert (found.status, watch.complete) == ("restored", True)
    assert found.detail == "could not be marked: it is unknown whether the load wrote it"

    save_file({"second.stubborn": torch.ones(2)}, path)
    with pytest.raises(ckpt_doctor.VerificationError, match="cannot be marked"), ckpt_doctor.watch_load(model, path):
        pass


def test_tensors_without_elements_count_neither_way(saved: tuple[Two, Path], tmp_path: Path) -> None:
    model, path = saved
    model.register_buffer("nothing", torch.empty(0))
    save_file({**load_file(path), "nothing": torch.empty(0)}, path)
    with ckpt_doctor.watch_load(model, path) as watch:
        model.load_state_dict(load_file(path))
    assert (watch.restored, watch.expected, watch.complete) == (3, 3, True)
    save_file({"nothing": torch.empty(0)}, tmp_path / "empty.safetensors")
    assert not ckpt_doctor.load_coverage(model, tmp_path / "empty.safetensors").complete
    save_file({"first.bias": torch.empty(0)}, tmp_path / "empty.safetensors")
    coverage = ckpt_doctor.load_coverage(model, tmp_path / "empty.safetensors")
    assert [item.code for item in coverage.findings] == ["CKD004"]


class Attention(nn.Module):
    """Like a layer of a model whose names are others."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Module()])
        self.layers[0].attn = nn.ModuleDict({f"w{name}": nn.Linear(8, 8, bias=False) for name in "qkvo"})


def load_renamed(model: Attention, state: dict[str, torch.Tensor], pairs: tuple[str, ...]) -> None:
    with torch.no_grad():
        for source, place in pairs:
            model.layers[0].attn[f"w{place}"].weight.copy_(state[f"model.layers.0.self_attn.{source}_proj.weight"])


def test_values_do_not_say_where_they_belong(tmp_path: Path) -> None:
    path = tmp_path / "attention.safetensors"
    torch.manual_seed(0)
    save_file({f"model.layers.0.self_attn.{name}_proj.weight": torch.randn(8, 8) for name in "qkvo"}, path)
    model, state = Attention(), load_file(path)
    with ckpt_doctor.watch_load(model, path) as watch:
        load_renamed(model, state, ("qq", "kk", "vv", "oo"))
    assert watch.complete
    with ckpt_doctor.watch_load(model, path) as watch:
        load_renamed(model, state, ("qk", "kq", "vv", "oo"))
    assert (watch.restored, watch.complete) == (2, False)
    detail = next(item.detail for item in watch.tensors if "q_proj" in item.name)
    assert detail == "its values are in layers.0.attn.wk.weight, but the name does not show that they belong there"
    assert "values alone do not show" in watch.findings[0].message


def test_values_under_names_that_say_nothing_are_no_load_if_they_were_there(tmp_path: Path) -> None:
    path = tmp_path / "attention.safetensors"
    torch.manual_seed(0)
    model = Attention()
    state = {f"model.layers.0.self_attn.{name}_proj.weight": torch.randn(8, 8) for name in "qkvo"}
    save_file(state, path)
    load_renamed(model, state, ("qq", "kk", "vv", "oo"))
    before = copy.deepcopy(model.state_dict())
    with ckpt_doctor.watch_load(model, path) as watch:
        pass
    assert watch.restored == 0
    assert is_as_before(model, before)


def overwrites(model: nn.Module, path: str) -> None:
    save_file(model.state_dict(), path, metadata={"format": "pt"})


def removes(model: nn.Module, path: str) -> None:
    model.load_state_dict(load_file(path))
    Path(path).unlink()


@pytest.mark.parametrize("loader", [overwrites, removes])
def test_a_load_that_changes_the_checkpoint_cannot_be_judged(
    saved: tuple[Two, Path], tmp_path: Path, loader: Callable[[nn.Module, str], None]
) -> None:
    _, original = saved
    path = tmp_path / "copy.safetensors"
    shutil.copy(original, path)
    with pytest.raises(ckpt_doctor.VerificationError, match=r"copy\.safetensors (changed|was removed) meanwhile"):
        verify(path, Two, loader=loader)
    shutil.copy(original, path)
    model = Two()
    with pytest.raises(ckpt_doctor.VerificationError, match="meanwhile"), ckpt_doctor.watch_load(model, path):
        loader(model, str(path))
