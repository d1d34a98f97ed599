"""MemGen's YAML files, in the forms that people keep them in."""

from __future__ import annotations

from pathlib import Path

import pytest

from ckpt_doctor.core.errors import PathNotFoundError, VerificationError
from ckpt_doctor.verification.memgen.config import MemGenSettings, read_memgen_yaml

pytest.importorskip("yaml")

BELOW_MODEL = """
model:
  model_name: Qwen/Qwen2.5-1.5B-Instruct
  load_model_path: null
  max_prompt_aug_num: 1
  weaver:
    model_name: Qwen/Qwen2.5-0.5B-Instruct
    prompt_latents_len: 4
    inference_latents_len: 16
    lora_config: {r: 16, lora_alpha: 32, target_modules: [q_proj, v_proj]}
  trigger:
    active: false
    lora_config: {r: 8}
run:
  seed: 42
"""
BESIDE_MODEL = """
model: {model_name: Qwen/Qwen2.5-1.5B-Instruct}
weaver:
  weaver_model_name: Qwen/Qwen2.5-0.5B-Instruct
  prompt_latents_len: 4
  inference_latents_len: 16
  peft_config: {r: 16, lora_alpha: 32, target_modules: [q_proj, v_proj]}
trigger: {lora_config: {r: 8}}
"""
FLAT = """
model:
  model_name: Qwen/Qwen2.5-1.5B-Instruct
  prompt_latents_len: 4
  inference_latents_len: 16
  weaver_lora_config: {r: 16, lora_alpha: 32, target_modules: [q_proj, v_proj]}
  trigger_lora_config: {r: 8}
  weaver: {model_name: Qwen/Qwen2.5-0.5B-Instruct}
"""


def read(tmp_path: Path, text: str | bytes) -> MemGenSettings:
    path = tmp_path / "memgen.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_memgen_yaml(path)


@pytest.mark.parametrize("text", [BELOW_MODEL, BESIDE_MODEL, FLAT], ids=["below", "beside", "flat"])
def test_every_form_means_the_same(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == MemGenSettings(
        model_name="Qwen/Qwen2.5-1.5B-Instruct",
        weaver_model_name="Qwen/Qwen2.5-0.5B-Instruct",
        prompt_latents_len=4,
        inference_latents_len=16,
        weaver_lora={"r": 16, "lora_alpha": 32, "target_modules": ["q_proj", "v_proj"]},
        trigger_lora={"r": 8},
    )


def test_the_name_alone_is_enough(tmp_path: Path) -> None:
    assert read(tmp_path, "model: {model_name: base}") == MemGenSettings(model_name="base")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: {}", r"no model\.model_name"),
        ("{}", r"no model\.model_name"),
        ("", "top level is not a mapping"),
        ("- 1", "top level is not a mapping"),
        ("model: base", "model should be a mapping, and is 'base'"),
        ("model: {model_name: 7}", r"model\.model_name should be a path or a hub id, and is '7'"),
        (
            "model: {model_name: b, weaver: {prompt_latents_len: many}}",
            r"weaver\.prompt_latents_len should be a number",
        ),
        ("model: {model_name: b, weaver: {prompt_latents_len: -1}}", r"weaver\.prompt_latents_len should be a number"),
        (
            "model: {model_name: b, weaver: {prompt_latents_len: true}}",
            r"weaver\.prompt_latents_len should be a number",
        ),
        ("model: {model_name: b, weaver: {lora_config: 16}}", r"weaver\.lora_config should be a mapping"),
        ("model: {model_name: b}\nweaver: x", "weaver should be a mapping"),
        ("model: {", "cannot be read as YAML"),
        (b"\xff\xfe\x00", "cannot be read as YAML"),
        ("model: !!python/object/apply:builtins.dict []", "cannot be read as YAML"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str | bytes, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VerificationError, match=said) as raised:
        read(tmp_path, text)
    assert "memgen.yaml" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_the_parser_gives_up_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def give_up(_: str) -> object:
        raise RecursionError

    monkeypatch.setattr("yaml.safe_load", give_up)
    with pytest.raises(VerificationError, match="cannot be read as YAML"):
        read(tmp_path, "model: {}")


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(PathNotFoundError, match=r"absent\.yaml does not exist"):
        read_memgen_yaml(tmp_path / "absent.yaml")
