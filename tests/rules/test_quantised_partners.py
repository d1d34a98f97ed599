"""CKD314: each partner of each scheme, what may be absent, and what is odd but healthy."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from ckpt_doctor import inspect
from ckpt_doctor.core.findings import Finding
from support.places import HEALTHY
from support.quantised import KINDS, configure, quantise

STEM = "model.layers.1.mlp.down_proj."
# A load is the same without the first. The others are numbers for activations, whose absence only a config could show.
MAY_BE_ABSENT = {"weight_format", "output_scale"}
ALWAYS_TOLD = {"input_scale": {"compressed-float8"}, "activation_scale": {"float8-tensors"}}


def model(tmp_path: Path, kind: str | None = None) -> Path:
    folder = Path(shutil.copytree(HEALTHY / "transformers/single_safetensors", tmp_path / "model"))
    return folder if kind is None else quantise(folder, kind)


def findings(folder: Path) -> list[Finding]:
    return [finding for finding in inspect(folder).findings if finding.code == "CKD314"]


def edit(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Path:
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})
    return folder


def settings(folder: Path, **values: Any) -> Path:
    return configure(folder, lambda config: config["quantization_config"].update(values))


CASES = [(name, tensor.removeprefix("X.")) for name, kind in KINDS.items() for tensor in kind.write("X", 32, 64)]


@pytest.mark.parametrize(("kind", "tensor"), CASES, ids=[f"{kind}-{tensor}" for kind, tensor in CASES])
def test_each_tensor_of_each_scheme_is_missed(kind: str, tensor: str, tmp_path: Path) -> None:
    folder = edit(model(tmp_path, kind), lambda state: {k: v for k, v in state.items() if k != STEM + tensor})
    found = findings(folder)
    if tensor in MAY_BE_ABSENT or kind not in ALWAYS_TOLD.get(tensor, {kind}):
        assert not found
        return
    (finding,) = found
    # Of bitsandbytes' state any data type will do.
    assert (STEM + tensor).partition("__")[0] in finding.message
    assert finding.path == "model.safetensors"


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if kind.settings])
def test_no_quantization_config(kind: str, tmp_path: Path) -> None:
    folder = configure(model(tmp_path, kind), lambda config: config.pop("quantization_config"))
    (finding,) = findings(folder)
    assert finding.path == "config.json"
    assert "no quantization_config" in finding.message


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config.update(auto_map={"AutoModel": "modeling.Own"}),
        lambda config: config.update(quantization_bit=4),
        lambda config: config.update(text_config={"quantization_config": config["quantization_config"]}),
        lambda config: config.update(compression_config=config["quantization_config"]),
    ],
    ids=["own code", "own key", "of the text model", "older key"],
)
def test_the_config_says_it_elsewhere(change: Callable[[dict[str, Any]], object], tmp_path: Path) -> None:
    folder = model(tmp_path, "gptq")
    configure(folder, change)
    configure(folder, lambda config: config.pop("quantization_config"))
    assert not findings(folder)


def test_a_file_beside_says_it(tmp_path: Path) -> None:
    folder = configure(model(tmp_path, "gptq"), lambda config: config.pop("quantization_config"))
    (folder / "quantize_config.json").write_text("{}")
    assert not findings(folder)


PLAIN = {"bitsandbytes-nf4", "bitsandbytes-int8", "bitsandbytes-fp4", "gptq", "awq", "packed", "torchao", "nvfp4"}


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if kind.settings])
def test_quantization_config_of_plain_weights(kind: str, tmp_path: Path) -> None:
    folder = configure(model(tmp_path), lambda config: config.update(quantization_config=KINDS[kind].settings))
    found = findings(folder)
    assert bool(found) == (kind in PLAIN or kind.startswith(("packed", "compressed", "float8")))
    # A CPU computes with plain weights whatever a config says of float8.
    assert {finding.severity.value for finding in found} <= {"warning" if kind.startswith("float8") else "error"}


@pytest.mark.parametrize(
    "values",
    [
        {"llm_int8_skip_modules": ["model.layers"]},
        {"modules_to_not_convert": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]},
        {"quantization_status": "frozen", "quant_method": "compressed-tensors"},
        {"quant_method": "quanto", "load_in_4bit": False},
    ],
    ids=str,
)
def test_plain_weights_that_are_meant(values: dict[str, Any], tmp_path: Path) -> None:
    given = dict(KINDS["bitsandbytes-nf4"].settings or {})
    folder = configure(model(tmp_path), lambda config: config.update(quantization_config=given))
    assert findings(folder)
    assert not findings(settings(folder, **{"load_in_4bit": "quant_method" not in values, **values}))


def test_a_plain_cast_to_float8_has_no_scale(tmp_path: Path) -> None:
    import torch

    def cast(state: dict[str, Any]) -> dict[str, Any]:
        return {k: v.to(torch.float8_e4m3fn) if "_proj.weight" in k else v for k, v in state.items()}

    assert not findings(edit(model(tmp_path), cast))


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("gptq", {"group_size": 8}),
        ("gptq", {"group_size": -1}),
        ("awq", {"group_size": 32}),
        ("packed", {"config_groups": {"g": {"weights": {"num_bits": 4, "strategy": "group", "group_size": 8}}}}),
        ("float8-blocks", {"weight_block_size": [24, 64]}),
    ],
    ids=str,
)
def test_numbers_that_do_not_fit(kind: str, values: dict[str, Any], tmp_path: Path) -> None:
    (finding,) = findings(settings(model(tmp_path, kind), **values))
    assert "must be" in finding.message
    assert finding.tensor_count >= 14


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("gptq", {"group_size": 8, "dynamic": {"+:.*down.*": {"bits": 8}}}),
        ("gptq", {"group_size": 8, "checkpoint_format": "marlin"}),
        ("packed", {"format": "marlin-24", "config_groups": {"g": {"weights": {"num_bits": 4, "group_size": 8}}}}),
        ("gptq", {"group_size": "auto", "bits": None}),
        ("awq", {"group_size": 32, "version": "gemv"}),
        ("packed", {"config_groups": {"a": {}, "b": {}}}),
        ("packed", {"config_groups": {"a": {"weights": [1]}}}),
        ("packed", {"config_groups": 7}),
        ("float8-blocks", {"weight_block_size": [0, "x"]}),
        ("float8-blocks", {"weight_block_size": 128}),
        ("float8-blocks", {"modules_to_not_convert": ["(a+)+$" * 50, 3, None, "*" * 500]}),
        ("gptq", {"group_size": 10**400, "bits": 4, "version": None}),
    ],
    ids=lambda value: str(value)[:60],
)
def test_settings_that_say_nothing_certain(kind: str, values: dict[str, Any], tmp_path: Path) -> None:
    folder = settings(model(tmp_path, kind), **values)
    assert len(findings(folder)) == (values.get("group_size") == 10**400)


def test_marlin_has_no_zero_points(tmp_path: Path) -> None:
    folder = edit(model(tmp_path, "awq"), lambda state: {k: v for k, v in state.items() if "qzeros" not in k})
    assert findings(folder)
    assert not findings(settings(folder, version="marlin", zero_point=False))


def test_a_plain_cast_beside_a_parameter_called_scale(tmp_path: Path) -> None:
    import torch

    def cast(state: dict[str, Any]) -> dict[str, Any]:
        state = {**state, STEM + "scale": torch.ones(1)}
        return {k: v.to(torch.float8_e4m3fn) for k, v in state.items()}

    assert not findings(edit(model(tmp_path), cast))


def test_experts_of_two_kinds(tmp_path: Path) -> None:
    """DeepSeek-V4 keeps 4-bit floats in bytes, with blocks that the config does not name."""
    import torch

    def experts(state: dict[str, Any]) -> dict[str, Any]:
        stem = "model.layers.{}.mlp.experts.{}.w1"
        for layer in range(2):
            for number in range(2):
                name = stem.format(layer, number)
                state[f"{name}.weight"] = torch.zeros(64, 16, dtype=torch.int8)
                state[f"{name}.scale"] = torch.ones(64, 1, dtype=torch.float8_e8m0fnu)
            fused = f"model.layers.{layer}.mlp.experts.down_proj"
            state[fused] = torch.zeros(2, 64, 32).to(torch.float8_e4m3fn)
            state[f"{fused}_scale_inv"] = torch.ones(2, 3, 2)
        return state

    folder = edit(model(tmp_path, "float8-blocks"), experts)
    assert not findings(folder)
    lost = {"model.layers.1.mlp.experts.0.w1.scale", "model.layers.1.mlp.experts.down_proj_scale_inv"}
    edit(folder, lambda state: {k: v for k, v in state.items() if k not in lost})
    missing = {name for finding in findings(folder) for name in finding.evidence["missing"]}
    assert missing == lost


def test_an_expert_that_no_token_reached(tmp_path: Path) -> None:
    """Calibration measures the inputs of those experts that see any."""

    def experts(state: dict[str, Any]) -> dict[str, Any]:
        for layer in range(2):
            for number in range(2):
                name = f"model.layers.{layer}.mlp.experts.{number}.up_proj"
                state |= KINDS["nvfp4"].write(name, 64, 32)
        return state

    folder = edit(model(tmp_path, "nvfp4"), experts)
    unreached = "model.layers.1.mlp.experts.1.up_proj.input_global_scale"
    edit(folder, lambda state: {k: v for k, v in state.items() if k != unreached})
    assert not findings(folder)


def test_other_libraries_read_settings_in_other_ways(tmp_path: Path) -> None:
    given = dict(KINDS["bitsandbytes-nf4"].settings or {})
    folder = configure(model(tmp_path), lambda config: config.update(quantization_config=given))
    configure(folder, lambda config: config.update(model_type=None, _class_name="FluxTransformer2DModel"))
    assert not findings(folder)


def test_a_lost_shard_is_another_rules_matter(tmp_path: Path) -> None:
    import json

    folder = model(tmp_path, "float8-blocks")
    file = folder / "model.safetensors"
    state = load_file(file)
    codes = {name: value for name, value in state.items() if not name.endswith("_scale_inv")}
    save_file(codes, folder / "model-00001-of-00002.safetensors", metadata={"format": "pt"})
    file.unlink()
    weight_map = {name: f"model-0000{1 if name in codes else 2}-of-00002.safetensors" for name in state}
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    codes_found = {finding.code for finding in inspect(folder).findings}
    assert "CKD701" in codes_found and "CKD314" not in codes_found
    scales = {name: value for name, value in state.items() if name not in codes}
    save_file(scales, folder / "model-00002-of-00002.safetensors", metadata={"format": "pt"})
    assert not findings(folder)
