"""What upstream MemGen writes and reads, in its own order and with its own calls, around tiny language models.

After ``memgen/model/modeling_memgen.py`` of KANABOON1/MemGen at a1b7397: three models and two ``PeftModel``; float32
LoRA, projections and latents beside bases of any dtype.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from memgen import save_side_files
from peft import LoraConfig, PeftModel
from torch import nn

NAMES = ("weaver", "trigger")
ORDER = (
    *("config.json", "projs.bin", "weaver.bin", "trigger.bin"),
    *(f"weaver/{name}" for name in ("README.md", "weaver/adapter_model.safetensors", "weaver/adapter_config.json")),
    *(f"trigger/{name}" for name in ("README.md", "trigger/adapter_model.safetensors", "trigger/adapter_config.json")),
    *("tokenizer_config.json", "training_args.bin"),
)
"""The files of a run, as one is written after the other."""
LORA = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}


class MemGenConfig(transformers.PretrainedConfig):
    """Keeps whatever it is given, as MemGen's own does with the fields of the reasoner's config."""

    model_type = "memgen"


def base(kind: str = "qwen2", hidden: int = 32, *, layers: int = 2, seed: int = 0, name: str = "", **more: Any) -> Any:
    """A tiny causal language model with random weights; ``name`` is where it was loaded from."""
    classes = {
        "qwen2": transformers.Qwen2Config,
        "llama": transformers.LlamaConfig,
        "gemma": transformers.GemmaConfig,
        "gemma2": transformers.Gemma2Config,
        "mistral": transformers.MistralConfig,
        "phi3": transformers.Phi3Config,
    }
    extra = {"head_dim": hidden // 4} if kind.startswith("gemma") else {}
    config = classes[kind](
        vocab_size=64,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        pad_token_id=0,
        **extra,
        **more,
    )
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config)
    model.name_or_path = model.config._name_or_path = name or f"tiny/{kind}-{hidden}"
    return model


class Upstream(nn.Module):
    """``MemGenModel`` as far as it is saved; ``lora`` changes what both adapters are configured with."""

    def __init__(
        self,
        reasoner: Any,
        weaver: Any = None,
        trigger: Any = None,
        *,
        lengths: tuple[int, int] = (8, 8),
        lora: Mapping[str, Any] | None = None,
        trigger_active: bool = True,
        trained: bool = True,
    ) -> None:
        super().__init__()
        weaver = copy.deepcopy(reasoner) if weaver is None else weaver
        trigger = copy.deepcopy(reasoner) if trigger is None else trigger
        hidden = weaver.config.hidden_size
        self.lora = {**LORA, **(lora or {})}
        self.trigger_active = trigger_active
        self.reasoner = reasoner
        self.weaver, self.trigger = nn.Module(), nn.Module()
        self.weaver.model, self.trigger.model = (
            PeftModel(model, LoraConfig(**self.lora), adapter_name=name)
            for model, name in zip((weaver, trigger), NAMES, strict=True)
        )
        for bank, length in zip(("prompt", "inference"), lengths, strict=True):
            setattr(self.weaver, f"{bank}_query_latents", nn.Parameter(torch.randn(length, hidden)))
            setattr(self.weaver, f"{bank}_latent_ln", nn.LayerNorm(hidden))
            setattr(self.weaver, f"{bank}_latent_scale", nn.Parameter(torch.ones(1)))
        self.trigger.output_layer = nn.Linear(trigger.config.hidden_size, 2)
        self.reasoner_to_weaver = nn.Linear(reasoner.config.hidden_size, hidden)
        self.weaver_to_reasoner = nn.Linear(hidden, reasoner.config.hidden_size)
        if trained:
            self.train_a_little("weaver", *(["trigger"] if trigger_active else []))

    def train_a_little(self, *parts: str) -> None:
        """Move everything that a training of these parts would move."""
        with torch.no_grad():
            for name, value in self.named_parameters():
                own = name.startswith(parts) or ("weaver" in parts and "reasoner_to" in name) or "weaver_to" in name
                if own and (".model." not in name or "lora_" in name):
                    value.add_(0.05 * torch.randn_like(value))

    def save(self, directory: Path) -> Path:
        """``save_pretrained`` and what the trainer writes after it, in their order."""
        directory.mkdir(parents=True, exist_ok=True)
        config = MemGenConfig(
            hidden_size=self.reasoner.config.hidden_size,
            weaver_lora_config=self.lora,
            prompt_latents_len=len(self.weaver.prompt_query_latents),
            inference_latents_len=len(self.weaver.inference_query_latents),
            trigger_active=self.trigger_active,
            trigger_lora_config=self.lora,
            max_prompt_aug_num=1,
            max_inference_aug_num=5,
        )
        config.save_pretrained(directory)
        save_side_files(self, directory)
        for name in NAMES:
            getattr(self, name).model.save_pretrained(directory / name, save_embedding_layers=False)
        (directory / "tokenizer_config.json").write_text("{}")
        torch.save({"output_dir": "out"}, directory / "training_args.bin")
        return directory

    def load(self, directory: Path) -> Upstream:
        """The adapters as ``from_pretrained`` loads them: into a model that is adapted already."""
        for name in NAMES:
            part: Any = getattr(self, name)
            part.model = PeftModel.from_pretrained(part.model.base_model, directory / name / name, adapter_name=name)
            part.model.set_adapter(name)
        return self


def after_a_load(first: Path, directory: Path, reasoner: Any, *more: Any, **options: Any) -> Path:
    """The folder of a second stage: the one at ``first`` is loaded, trained further, and saved."""
    model = Upstream(reasoner, *more, trained=False, **options).load(first)
    model.train_a_little(*NAMES)
    return model.save(directory)


def write_yaml(path: Path, reasoner: Path | str, weaver: Path | str | None = None, trigger: Any = None) -> Path:
    """A configuration of an evaluation, with the model names that are given."""
    lines = ["model:", f"  model_name: {reasoner}"]
    for name, value in (("weaver", weaver), ("trigger", trigger)):
        lines += [f"  {name}:", f"    model_name: {value}"] if value is not None else []
    path.write_text("\n".join(lines) + "\n")
    return path
