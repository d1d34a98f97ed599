"""Every kind of adapter: complete when it is loaded by PEFT, incomplete by name when anything is wrong with it."""

from __future__ import annotations

import functools
import json
import warnings
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from support.zoo import adapters, models

# isort: split
from peft_variants import Variant

from ckpt_doctor.core.coverage import Coverage
from ckpt_doctor.core.errors import VerificationError
from ckpt_doctor.verification import load_coverage, verify
from support.peft_saves import ONE_OF_EACH, SAVED, edited, leaves_out, names, save

# Computed from the weights of the base while they are built, so that there is nothing to compare without memory.
NEEDS_WEIGHTS = {"ADAMSS", "FROD", "SHIRA"}
# PEFT gives its parameters the shapes that it finds in the file.
TAKES_EVERY_SHAPE = {"ADAMSS"}


def victim(coverage: Coverage, trained: set[str]) -> tuple[str, str]:
    """A tensor that was trained, and its parameter: one that starts at zero where there is one."""
    pairs = [(item.name, item.parameter) for item in coverage.tensors if item.parameter in trained]
    pairs = pairs or [(item.name, item.parameter) for item in coverage.tensors]
    return max(pairs, key=lambda pair: ("lora_B" in pair[0], -len(pair[0])))


@pytest.mark.slow
@pytest.mark.parametrize("variant", SAVED, ids=names)
def test_a_load_by_peft_is_complete(variant: Variant, tmp_path: Path) -> None:
    adapter, model, _ = save(variant, tmp_path)
    coverage = verify(adapter, model, loader="auto")
    assert coverage.complete, [*coverage.table(), *coverage.findings, *coverage.log]
    assert not coverage.findings
    assert coverage.ratio == 1
    if variant not in ONE_OF_EACH:
        return
    if variant.peft_type in NEEDS_WEIGHTS:
        with pytest.raises(VerificationError, match="use --mode load"):
            verify(adapter, model, mode="keys", loader="auto")
    else:
        keys = verify(adapter, model, mode="keys", loader="auto")
        assert keys.complete, [*keys.table(), *keys.findings]


@pytest.mark.slow
@pytest.mark.parametrize("variant", ONE_OF_EACH, ids=names)
def test_each_damage_is_incomplete_and_named(variant: Variant, tmp_path: Path) -> None:
    adapter, model, trained = save(variant, tmp_path)
    name, parameter = victim(verify(adapter, model, loader="auto"), trained)
    original = (adapter / "adapter_model.safetensors").read_bytes()

    with edited(adapter) as tensors:
        del tensors[name]
    dropped = verify(adapter, model, loader="auto")
    assert not dropped.complete
    codes = {finding.code: finding for finding in dropped.findings}
    assert "CKD002" in codes or "CKD503" in codes or parameter in codes["CKD003"].tensors

    (adapter / "adapter_model.safetensors").write_bytes(original)
    with edited(adapter) as tensors:
        tensors[f"{name}_of_another_model"] = tensors.pop(name)
    renamed = verify(adapter, model, loader="auto")
    assert not renamed.complete
    assert f"{name}_of_another_model" in {item.name for item in renamed.not_restored()}

    (adapter / "adapter_model.safetensors").write_bytes(original)
    with edited(adapter) as tensors:
        tensors[name] = tensors[name].repeat(2, *[1] * (tensors[name].dim() - 1))
    reshaped = verify(adapter, model, loader="auto")
    if variant.peft_type not in TAKES_EVERY_SHAPE:
        assert not reshaped.complete
        assert name in {item.name for item in reshaped.not_restored()}

    (adapter / "adapter_model.safetensors").write_bytes(original)
    left_out = verify(adapter, model, loader=leaves_out(parameter))
    if not any(finding.code == "CKD002" for finding in left_out.findings):  # else only from_pretrained loads this type
        assert not left_out.complete
        # Its whole numbers are those of a new adapter too, and bear no mark: they count beside something that arrived.
        untold = [item.name for item in left_out.tensors if "nothing else of" in item.detail]
        assert not untold or variant.peft_type == "SUPERTUNING"
        assert sorted(item.name for item in left_out.not_restored()) == sorted([name, *untold])
        assert left_out.findings[0].code == "CKD001"
        assert left_out.findings[0].tensors == tuple(sorted([name, *untold]))


@pytest.mark.slow
def test_values_that_are_only_kept_are_not_loaded(tmp_path: Path) -> None:
    adapter = next(item for item in SAVED if item.name == "lora-default")
    path, base, _ = save(adapter, tmp_path)

    def keep(model: torch.nn.Module, path: str) -> torch.nn.Module:
        state = load_file(Path(path) / "adapter_model.safetensors")
        for number, value in enumerate(state.values()):
            model.register_buffer(f"kept{number}", value)
        return model

    coverage = verify(path, base, loader=keep)
    assert coverage.restored == 0
    assert "CKD002" not in {finding.code for finding in coverage.findings}


def merged(model: Any, path: str) -> Any:
    return peft.PeftModel.from_pretrained(model, path).merge_and_unload()


def merged_but_for_one(model: Any, path: str) -> Any:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    result = merged(model, path)
    live = result.state_dict()
    with torch.no_grad():
        name = next(name for name, value in before.items() if not torch.equal(live[name], value))
        live[name].copy_(before[name])
    return result


MERGED = ("lora-default", "lora-dora", "lora-gpt2", "adalora", "vera", "unilora", "oft", "ia3", "trainable-tokens")


@pytest.mark.slow
@pytest.mark.parametrize("variant", [item for item in SAVED if item.name in MERGED], ids=names)
def test_an_adapter_that_was_merged(variant: Variant, tmp_path: Path) -> None:
    path, base, _ = save(variant, tmp_path)
    whole = verify(path, base, loader=merged)
    assert whole.complete, [*whole.table(), *whole.findings, *whole.log]
    assert all("(merged)" in (item.parameter or "") for item in whole.tensors)
    assert verify(path, base, loader=lambda model, path: merged(model, path).to(torch.bfloat16)).complete
    partly = verify(path, base, loader=merged_but_for_one)
    assert not partly.complete
    assert [finding.code for finding in partly.findings] == ["CKD001"]
    nothing = verify(path, base, loader=lambda model, path: model)
    assert nothing.restored == 0
    assert "has no PEFT adapter" in nothing.findings[0].message


class Wrapped(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.backbone = model


@pytest.mark.slow
def test_merged_in_half_precision_or_inside_of_another_model(tmp_path: Path) -> None:
    path, base, _ = save(next(item for item in SAVED if item.name == "lora-default"), tmp_path)
    assert verify(path, base, loader=lambda model, path: merged(model.to(torch.bfloat16), path)).complete
    coverage = verify(path, base, loader=lambda model, path: Wrapped(merged(model, path)))
    assert coverage.complete
    assert all(item.parameter.startswith("backbone.") for item in coverage.tensors)
    assert not verify(path, base, loader=lambda model, path: Wrapped(merged_but_for_one(model, path))).complete


@pytest.mark.slow
def test_merged_with_a_head_of_its_own(tmp_path: Path) -> None:
    path, base, _ = save(next(item for item in SAVED if item.name == "lora-seq-cls-bert"), tmp_path)
    assert verify(path, base, loader="auto").complete
    assert verify(path, base, loader=merged).complete
    assert not verify(path, base, loader=merged_but_for_one).complete


def test_an_adapter_that_a_factory_merged(tmp_path: Path) -> None:
    path = adapters.ANIMALS["local-base"](tmp_path)

    def load(path: str) -> Any:
        return peft.AutoPeftModelForCausalLM.from_pretrained(path).merge_and_unload()

    assert verify(path, load).complete


@pytest.mark.slow
def test_an_adapter_that_is_idle(tmp_path: Path) -> None:
    path, base, _ = save(next(item for item in SAVED if item.name == "lora-default"), tmp_path)

    def load(model: Any, path: str, *, off: bool) -> Any:
        adapted = peft.PeftModel.from_pretrained(model, path, adapter_name="loaded")
        if off:
            adapted.base_model.disable_adapter_layers()
        else:
            adapted.add_adapter("other", peft.PeftConfig.from_pretrained(path))
            adapted.set_adapter("other")
        return adapted

    for off, said in ((True, "switched off"), (False, "not the active one")):
        for mode in ("load", "forward"):
            coverage = verify(path, base, loader=functools.partial(load, off=off), mode=mode)
            assert coverage.restored == coverage.expected
            assert [finding.code for finding in coverage.findings] == ["CKD006"]
            assert said in coverage.findings[0].message


@pytest.mark.slow
def test_values_that_went_through_another_dtype(tmp_path: Path) -> None:
    path, base, _ = save(next(item for item in SAVED if item.name == "lora-default"), tmp_path)

    def load(model: Any, path: str) -> Any:
        return peft.PeftModel.from_pretrained(model, path).to(torch.bfloat16).to(torch.float32)

    coverage = verify(path, base, loader=load)
    assert {item.status for item in coverage.tensors} == {"cast"}
    assert "from float32 to bfloat16 to float32" in coverage.findings[0].message


@pytest.mark.slow
def test_advice_on_names_only_where_nothing_was_written(tmp_path: Path) -> None:
    path, base, _ = save(next(item for item in SAVED if item.name == "lora-default"), tmp_path)

    def adapted(model: Any, path: str) -> Any:
        return peft.get_peft_model(model, peft.PeftConfig.from_pretrained(path))

    def build() -> Any:
        return adapted(AutoModelForCausalLM.from_pretrained(base), str(path))

    def scrambled(model: Any, path: str) -> None:
        weights = {name: value + 1 for name, value in peft.load_peft_weights(path, device="cpu").items()}
        peft.set_peft_model_state_dict(model, weights)

    def by_name(model: Any, path: str) -> None:
        model.load_state_dict(peft.load_peft_weights(path, device="cpu"), strict=False)

    assert [item.code for item in verify(path, build, loader=scrambled).findings] == ["CKD001"]
    assert [item.code for item in verify(path, build, loader=by_name).findings] == ["CKD001", "CKD005"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT: the base lies elsewhere now
        model = build()
    assert [item.code for item in load_coverage(model, path).findings] == ["CKD001", "CKD005"]
    scrambled(model, str(path))  # as after more training: nobody lost a name
    assert [item.code for item in load_coverage(model, path).findings] == ["CKD001"]


@pytest.mark.slow
def test_what_a_loader_may_return(tmp_path: Path) -> None:
    path, base, _ = save(next(item for item in SAVED if item.name == "lora-default"), tmp_path)

    def load(model: Any, path: str) -> Any:
        return peft.PeftModel.from_pretrained(model, path)

    assert verify(path, base, loader=lambda model, path: (load(model, path), "a tokenizer")).complete
    assert verify(path, base, loader=lambda model, path: {"model": load(model, path), "step": 3}).complete

    def never_runs(model: Any, path: str) -> Any:
        yield load(model, path)

    coverage = verify(path, base, loader=never_runs)
    assert coverage.restored == 0
    assert any("returned generator: the model it was given is judged" in line for line in coverage.log)


def experts_one_by_one(directory: Path) -> tuple[Path, Path]:
    """A LoRA on the experts of a Mixtral, as it was saved while each expert was a module of its own; and its base."""
    base = models.ANIMALS["mixtral"](directory / "base")
    sizes = json.loads((base / "config.json").read_text())
    wide, narrow = sizes["intermediate_size"], sizes["hidden_size"]
    tensors = {}
    for layer in range(sizes["num_hidden_layers"]):
        for expert in range(sizes["num_local_experts"]):
            for name, (out, into) in {"w1": (wide, narrow), "w2": (narrow, wide), "w3": (wide, narrow)}.items():
                module = f"base_model.model.model.layers.{layer}.block_sparse_moe.experts.{expert}.{name}"
                tensors[f"{module}.lora_A.weight"] = torch.randn(4, into)
                tensors[f"{module}.lora_B.weight"] = torch.randn(out, 4)
    adapter = directory / "adapter"
    peft.LoraConfig(r=4, target_modules=["w1", "w2", "w3"], task_type="CAUSAL_LM").save_pretrained(adapter)
    save_file(tensors, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    return adapter, base


@pytest.mark.slow
def test_experts_that_peft_fuses_on_loading(tmp_path: Path) -> None:
    adapter, base = experts_one_by_one(tmp_path)
    for mode in ("load", "keys"):
        coverage = verify(adapter, str(base), mode=mode)
        assert coverage.complete, [*coverage.table(), *coverage.findings]
        assert not coverage.findings
    changed = "base_model.model.model.layers.0.block_sparse_moe.experts.1.w3.lora_B.weight"

    def spoiled(model: Any, path: str) -> Any:
        adapted = peft.PeftModel.from_pretrained(model, path)
        parameter = next(item.parameter for item in whole.tensors if item.name == changed)
        fused = dict(adapted.named_parameters())[parameter.removesuffix("[...]")]
        with torch.no_grad():
            value = load_file(adapter / "adapter_model.safetensors")[changed][0, 0]
            fused[fused == value] += 1
        return adapted

    whole = verify(adapter, str(base))
    spoilt = verify(adapter, str(base), loader=spoiled)
    assert [item.name for item in spoilt.not_restored()] == [changed]


def adapter_with(path: str, model: Any, **settings: Any) -> Any:
    config = peft.PeftConfig.from_pretrained(path)
    for name, value in settings.items():
        setattr(config, name, value)
    adapted = peft.get_peft_model(model, config, adapter_name="own")
    peft.set_peft_model_state_dict(adapted, peft.load_peft_weights(path), adapter_name="own")
    return adapted


# PEFT asks transformers for a property that will have another name some day.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_an_adapter_that_nothing_applies_is_an_error_where_nobody_comes_after_the_load(tmp_path: Path) -> None:
    path, base, _ = save(next(item for item in SAVED if item.name == "lora-default"), tmp_path)

    def off(model: Any, path: str) -> Any:
        adapted = adapter_with(path, model)
        adapted.base_model.disable_adapter_layers()
        return adapted

    coverage = verify(path, base, loader=off)
    assert ([item.severity.value for item in coverage.findings], coverage.complete) == (["error"], False)
    model = AutoModelForCausalLM.from_pretrained(base)
    with pytest.warns(UserWarning, match="was renamed from"):
        in_program = load_coverage(off(model, str(path)), path)
    assert ([item.severity.value for item in in_program.findings], in_program.complete) == (["warning"], True)


@pytest.mark.slow
def test_an_adapter_that_some_layers_do_not_apply(tmp_path: Path) -> None:
    path, base, _ = save(next(item for item in SAVED if item.name == "lora-default"), tmp_path)

    def load(model: Any, path: str) -> Any:
        adapted = adapter_with(path, model)
        next(module for module in adapted.modules() if hasattr(module, "lora_A")).enable_adapters(False)
        return adapted

    coverage = verify(path, base, loader=load)
    assert [(item.code, item.severity.value) for item in coverage.findings] == [("CKD006", "warning")]
    assert "is switched off in 1 of the " in coverage.findings[0].message
    assert "q_proj" in coverage.findings[0].message


@pytest.mark.slow
def test_a_combination_of_adapters(tmp_path: Path) -> None:
    path, base, _ = save(next(item for item in SAVED if item.name == "lora-default"), tmp_path)

    def load(model: Any, path: str) -> Any:
        adapted = adapter_with(path, model)
        adapted.add_weighted_adapter(["own"], [0.7], "mixed", combination_type="cat")
        adapted.set_adapter("mixed")
        return adapted

    coverage = verify(path, base, loader=load)
    assert coverage.complete
    assert "If add_weighted_adapter made 'mixed' from it, nothing is wrong" in coverage.findings[0].message


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["lora-default", "lora-rslora"])
def test_the_scaling_is_that_of_the_config(tmp_path: Path, variant: str) -> None:
    path, base, _ = save(next(item for item in SAVED if item.name == variant), tmp_path)
    assert verify(path, base, loader=lambda model, path: adapter_with(path, model)).findings == ()

    coverage = verify(path, base, loader=lambda model, path: adapter_with(path, model, lora_alpha=999))
    assert [(item.code, item.severity.value) for item in coverage.findings] == [("CKD010", "error")]
    assert coverage.restored == coverage.expected and not coverage.complete

    coverage = verify(path, base, loader=lambda model, path: adapter_with(path, model, lora_alpha=0))
    assert {item.code for item in coverage.findings} == {"CKD006", "CKD010"}
    assert any("scaled by 0" in item.message for item in coverage.findings)
