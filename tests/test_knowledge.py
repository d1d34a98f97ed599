"""What is written down about PEFT and transformers is what the installed libraries do."""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

from ckpt_doctor.knowledge import peft_types
from ckpt_doctor.knowledge.adapter_settings import MEANINGFUL, meaningful_settings
from ckpt_doctor.knowledge.peft_types import PEFT_TYPES, PEFT_VERSION, PeftType
from ckpt_doctor.layouts.names import is_training_state

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

VARIANTS = importlib.import_module("peft_variants").VARIANTS

# Other releases know other types and settings; what the table says is true of one.
pytestmark = pytest.mark.skipif(peft.__version__ != PEFT_VERSION, reason=f"the table is that of PEFT {PEFT_VERSION}")

# What X-LoRA saves depends on the names of its experts, and AdaMSS needs scikit-learn.
SKIPPED = {"XLORA"}
BUILDABLE = [variant for variant in VARIANTS if variant.peft_type not in SKIPPED]
FIRST = {variant.peft_type: variant for variant in reversed(BUILDABLE)}
BESIDES = re.compile(r"\.(bias|modules_to_save|original_module|trainable_tokens_delta)(\.|$)")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def saved_by(variant: Any) -> dict[str, torch.Tensor]:
    return peft.get_peft_model_state_dict(variant.build(), save_embedding_layers=False)


def parameter(name: str, kind: PeftType) -> tuple[str, str] | None:
    """The module and the known parameter that a saved name consists of."""
    for suffix in kind.module_suffixes:
        pattern = re.escape(suffix).replace(r"\*", r"\d+")
        found = re.fullmatch(rf"base_model\.model\.(.+)\.{pattern}", name)
        if found:
            return found[1], suffix
    return None


def is_shared(name: str, kind: PeftType) -> bool:
    return any(name == bank or name.startswith(f"{bank}.") for bank in shared_names(kind))


def shared_names(kind: PeftType) -> list[str]:
    return [f"{root}{suffix}" for suffix in kind.shared_suffixes for root in ("", "base_model.")]


def test_every_type_stands_there_with_its_settings() -> None:
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING

    assert {kind.value for kind in PEFT_TYPE_TO_CONFIG_MAPPING} == set(PEFT_TYPES)
    for kind, config in PEFT_TYPE_TO_CONFIG_MAPPING.items():
        known = PEFT_TYPES[kind.value]
        assert known.value == kind.value
        assert known.prefix == PEFT_TYPE_TO_PREFIX_MAPPING[kind]
        assert known.prompt_learning == issubclass(config, peft.PromptLearningConfig)
        assert {field.name for field in dataclasses.fields(config)} <= known.config_keys


def test_settings_of_the_first_releases_are_known() -> None:
    assert {"enable_lora", "merge_weights"} <= PEFT_TYPES["LORA"].config_keys
    assert not set(peft_types.REMOVED_TYPES) & set(PEFT_TYPES)


def test_constants() -> None:
    from peft.utils import constants

    assert list(peft_types.EMBEDDING_LAYER_NAMES) == constants.EMBEDDING_LAYER_NAMES
    assert set(peft_types.AUTOMATIC_HEADS["SEQ_CLS"]) == set(constants.SEQ_CLS_HEAD_NAMES)


@pytest.mark.parametrize("task", peft_types.AUTOMATIC_HEADS)
def test_heads_are_added_without_being_asked_for(task: str) -> None:
    variant = next(
        v for v in VARIANTS if v.peft_type == "LORA" and v.task == task and "modules_to_save" not in v.settings
    )
    config = variant.build().peft_config["default"]
    assert set(config.modules_to_save) == set(peft_types.AUTOMATIC_HEADS[task])


@pytest.mark.slow
@pytest.mark.parametrize("variant", BUILDABLE, ids=lambda variant: variant.name)
def test_every_saved_name_is_accounted_for(variant: Any) -> None:
    kind = PEFT_TYPES[variant.peft_type]
    modules: dict[str, set[str]] = defaultdict(set)
    model = variant.build()
    settings = model.peft_config["default"].to_dict()
    # What is tied to a module that is saved whole is saved with it.
    whole = {*(settings.get("modules_to_save") or ()), *(["lm_head"] if settings.get("ensure_weight_tying") else [])}
    saved = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    assert saved
    for name in saved:
        found = parameter(name, kind)
        if found:
            modules[found[0]].add(found[1])
        else:
            known = is_shared(name, kind) or BESIDES.search(name) or whole & set(name.split("."))
            assert known, f"{name} is unknown"
    for module, parameters in modules.items():
        for group in kind.groups:
            assert parameters.isdisjoint(group) or parameters.issuperset(group), f"{module} has a part of {group}"


@pytest.mark.slow
@pytest.mark.parametrize("peft_type", sorted(name for name, kind in PEFT_TYPES.items() if kind.zero_init))
def test_zeros_mean_no_effect(peft_type: str) -> None:
    if peft_type in SKIPPED:
        pytest.skip("needs scikit-learn")
    variant = FIRST[peft_type]
    kind = PEFT_TYPES[peft_type]
    model = variant.build().eval()
    tokens = torch.arange(16).reshape(1, 16)
    inputs = {"task_ids": torch.zeros(1, dtype=torch.long)} if peft_type == "POLY" else {}
    zero = [tensor for name, tensor in saved_by(variant).items() if name.endswith(kind.zero_init)]
    assert zero
    assert not any(tensor.any() for tensor in zero)
    with torch.no_grad():
        adapted = model(input_ids=tokens, **inputs).logits
        with model.disable_adapter():
            plain = model(input_ids=tokens, **inputs).logits
        assert torch.allclose(adapted, plain, atol=1e-5)
        for name, tensor in model.named_parameters():
            if tensor.requires_grad and kind.prefix.removesuffix("lambda_").split("_")[0] in name:
                tensor.add_(0.1 * torch.randn_like(tensor))
        assert not torch.allclose(model(input_ids=tokens, **inputs).logits, plain, atol=1e-5)


def test_settings_that_change_the_meaning_are_settings() -> None:
    assert frozenset().union(*(kind.config_keys for kind in PEFT_TYPES.values())) >= MEANINGFUL
    # An absent one and an empty one are the same: whatever PEFT writes by default must not be a change.
    config = peft.LoraConfig(r=8, target_modules={"q_proj", "v_proj"}).to_dict()
    assert meaningful_settings(json.loads(json.dumps(config, default=list))) == {
        **{"peft_type": "LORA", "r": 8, "lora_alpha": 8},
        **{"target_modules": ["q_proj", "v_proj"]},
    }


def test_files_of_training_runs_are_recognised() -> None:
    from accelerate.utils import constants as accelerate
    from transformers import trainer

    names = [trainer.TRAINING_ARGS_NAME, trainer.OPTIMIZER_NAME, trainer.SCHEDULER_NAME, trainer.SCALER_NAME]
    names += ["rng_state.pth", "rng_state_3.pth"]
    names += [f"{accelerate.OPTIMIZER_NAME}.bin", f"{accelerate.SCHEDULER_NAME}.bin", f"{accelerate.SAMPLER_NAME}.bin"]
    names += [f"{accelerate.OPTIMIZER_NAME}_1.bin", f"{accelerate.RNG_STATE_NAME}_0.pkl", accelerate.SCALER_NAME]
    names += ["mp_rank_00_model_states.pt", "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt"]
    assert [name for name in names if not is_training_state(name)] == []
    weights = ["model.safetensors", "pytorch_model.bin", "adapter_model.bin", "projections.pt", "weaver.bin"]
    assert [name for name in weights if is_training_state(name)] == []
