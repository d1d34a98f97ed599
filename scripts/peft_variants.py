"""Adapters of every PEFT type in the variants that change what their files hold: one table.

``generate_peft_knowledge.py`` reads the names of the saved tensors off them; the tests save them as healthy
checkpoints.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import peft
import torch
import transformers

VOCABULARY = 64
HIDDEN = 32
_ATTENTION = ["q_proj", "v_proj"]
_SIZES: Mapping[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}


@dataclass(frozen=True)
class Variant:
    """An adapter on a base model: ``base`` is a key of :data:`BASES`, ``settings`` are the config's arguments."""

    name: str
    peft_type: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    base: str = "qwen2"
    task: str | None = "CAUSAL_LM"

    def config(self) -> peft.PeftConfig:
        """The configuration."""
        settings = {key: value() if callable(value) else value for key, value in self.settings.items()}
        return peft.PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType(self.peft_type)](task_type=self.task, **settings)

    def build(self) -> peft.PeftModel:
        """The base model with this adapter, seeded."""
        torch.manual_seed(0)
        base = BASES[self.base]()
        return peft.get_peft_model(base, self.config())


def _qwen2(**changes: Any) -> torch.nn.Module:
    settings = {**_SIZES, "num_key_value_heads": 2, "tie_word_embeddings": False, **changes}
    return transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**settings))


def _without_cache(model: torch.nn.Module) -> torch.nn.Module:
    model.config.use_cache = False
    return model


def _qwen2_classifier() -> torch.nn.Module:
    config = transformers.Qwen2Config(**_SIZES, num_key_value_heads=2, num_labels=3, pad_token_id=0)
    return transformers.Qwen2ForSequenceClassification(config)


def _llama() -> torch.nn.Module:
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**_SIZES, num_key_value_heads=4))


def _gpt2() -> torch.nn.Module:
    config = transformers.GPT2Config(vocab_size=VOCABULARY, n_embd=HIDDEN, n_layer=2, n_head=4, n_positions=64)
    return transformers.GPT2LMHeadModel(config)


def _t5() -> torch.nn.Module:
    config = transformers.T5Config(
        vocab_size=VOCABULARY, d_model=HIDDEN, d_kv=8, d_ff=64, num_layers=2, num_heads=4, decoder_start_token_id=0
    )
    return transformers.T5ForConditionalGeneration(config)


def _bert(kind: str) -> Callable[[], torch.nn.Module]:
    return lambda: getattr(transformers, f"BertFor{kind}")(transformers.BertConfig(**_SIZES, num_labels=3))


def _mixtral() -> torch.nn.Module:
    config = transformers.MixtralConfig(
        **_SIZES, num_key_value_heads=4, num_local_experts=4, num_experts_per_tok=2, tie_word_embeddings=False
    )
    return transformers.MixtralForCausalLM(config)


class ConvolutionModel(torch.nn.Module):
    """A model that is not from transformers: a convolution and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(4, 8, 3)
        self.hidden = torch.nn.Linear(8, 16)
        self.output = torch.nn.Linear(16, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.output(self.hidden(self.convolution(images).mean((2, 3))))


BASES: Mapping[str, Callable[[], torch.nn.Module]] = {
    "qwen2": _qwen2,
    "xlora": lambda: _without_cache(_qwen2()),
    "qwen2-tied": lambda: _qwen2(tie_word_embeddings=True),
    "qwen2-classifier": _qwen2_classifier,
    "llama": _llama,
    "gpt2": _gpt2,
    "t5": _t5,
    "bert-classifier": _bert("SequenceClassification"),
    "bert-tokens": _bert("TokenClassification"),
    "bert-questions": _bert("QuestionAnswering"),
    "mixtral": _mixtral,
    "convolution": ConvolutionModel,
}


def _lora(name: str, base: str = "qwen2", task: str | None = "CAUSAL_LM", **settings: Any) -> Variant:
    return Variant(f"lora-{name}", "LORA", {"r": 4, "target_modules": _ATTENTION, **settings}, base, task)


def _on_attention(peft_type: str, name: str = "", **settings: Any) -> Variant:
    label = peft_type.lower().replace("_", "-")
    return Variant(f"{label}-{name}" if name else label, peft_type, {"target_modules": _ATTENTION, **settings})


def _prompt(peft_type: str, name: str = "", base: str = "qwen2", task: str = "CAUSAL_LM", **settings: Any) -> Variant:
    label = peft_type.lower().replace("_", "-")
    return Variant(f"{label}-{name}" if name else label, peft_type, {"num_virtual_tokens": 4, **settings}, base, task)


LORA_VARIANTS = (
    _lora("default"),
    _lora("bias-all", bias="all"),
    _lora("bias-lora-only", bias="lora_only"),
    _lora("bias-all-bert", "bert-classifier", "SEQ_CLS", bias="all", target_modules=["query", "value"]),
    _lora("regex", target_modules=r".*\.layers\.\d+\.self_attn\.(q|k)_proj"),
    _lora("all-linear", target_modules="all-linear"),
    _lora("rank-pattern", rank_pattern={"layers.1.self_attn.q_proj": 2}, alpha_pattern={"v_proj": 16}),
    _lora("one-layer", layers_to_transform=[1]),
    _lora("one-layer-pattern", layers_to_transform=0, layers_pattern="layers"),
    _lora("excluded", exclude_modules=r".*layers\.0\..*"),
    _lora("embeddings", target_modules=["q_proj", "embed_tokens"]),
    _lora("head", target_modules=["q_proj", "lm_head"]),
    _lora("embeddings-and-head", target_modules=["embed_tokens", "lm_head"]),
    _lora("tied-embeddings", "qwen2-tied", target_modules=["q_proj", "embed_tokens"]),
    _lora("tied-head", "qwen2-tied", target_modules=["q_proj", "lm_head"]),
    _lora("ensure-tying", "qwen2-tied", target_modules=["q_proj", "embed_tokens"], ensure_weight_tying=True),
    _lora("modules-to-save", modules_to_save=["lm_head", "embed_tokens"]),
    _lora("modules-to-save-norm", modules_to_save=["input_layernorm"]),
    _lora("tied-modules-to-save", "qwen2-tied", modules_to_save=["embed_tokens"], ensure_weight_tying=True),
    _lora("trainable-tokens", trainable_token_indices=[1, 2, 3]),
    _lora("trainable-tokens-tied", "qwen2-tied", trainable_token_indices={"embed_tokens": [1, 2]}),
    _lora("seq-cls", "qwen2-classifier", "SEQ_CLS"),
    _lora("seq-cls-bert", "bert-classifier", "SEQ_CLS", target_modules=["query", "value"]),
    _lora("token-cls-bert", "bert-tokens", "TOKEN_CLS", target_modules=["query", "value"]),
    _lora("question-answering", "bert-questions", "QUESTION_ANS", target_modules=["query", "value"]),
    _lora("feature-extraction", "qwen2", "FEATURE_EXTRACTION"),
    _lora("no-task", task=None),
    _lora("dora", use_dora=True),
    _lora("dora-embeddings", use_dora=True, target_modules=["q_proj", "embed_tokens"]),
    _lora("dora-convolution", "convolution", None, use_dora=True, target_modules=["convolution", "hidden"]),
    _lora("rslora", use_rslora=True),
    _lora("lora-bias", lora_bias=True),
    _lora("alora", alora_invocation_tokens=[3, 4]),
    _lora("pissa", init_lora_weights="pissa"),
    _lora("olora", init_lora_weights="olora"),
    _lora("gaussian", init_lora_weights="gaussian"),
    _lora("orthogonal", init_lora_weights="orthogonal"),
    _lora("random-b", init_lora_weights=False),
    _lora("replicated-layers", layer_replication=[(0, 2), (0, 2)]),
    _lora("gpt2", "gpt2", target_modules=["c_attn"], fan_in_fan_out=True),
    _lora("t5", "t5", "SEQ_2_SEQ_LM", target_modules=["q", "v"]),
    _lora("convolution", "convolution", None, target_modules=["convolution", "output"]),
    _lora("convolution-bias", "convolution", None, target_modules=["convolution"], bias="lora_only"),
    _lora("target-parameters", "mixtral", target_modules=[], target_parameters=["experts.gate_up_proj"]),
    _lora(
        "target-two-parameters",
        "mixtral",
        target_modules=["q_proj"],
        target_parameters=["experts.gate_up_proj", "experts.down_proj"],
    ),
    _lora("bdlora", use_bdlora=lambda: _bdlora()),
    _lora("kasa", kasa_config=lambda: peft.tuners.lora.config.KasaConfig()),
    _lora("velora", velora_config=lambda: peft.tuners.lora.config.VeloraConfig(num_groups=8)),
    _lora("monteclora", monteclora_config=lambda: peft.tuners.lora.config.MontecloraConfig()),
)


def _saved_experts() -> dict[str, str]:
    # X-LoRA is configured with the folders of adapters that are there already.
    folders = {}
    for name in ("first", "second"):
        folders[name] = tempfile.mkdtemp()
        atexit.register(shutil.rmtree, folders[name])
        _lora(name).build().save_pretrained(folders[name], save_embedding_layers=False)
    return folders


def _bdlora() -> Any:
    return peft.tuners.lora.config.BdLoraConfig(
        target_modules_bd_a=["o_proj"], target_modules_bd_b=["q_proj", "v_proj"], nblocks=2
    )


TUNER_VARIANTS = (
    _on_attention("ADALORA", init_r=4, target_r=2, total_step=10),
    _on_attention("ADAMSS", r=4, num_subspaces=2),
    Variant("adaption-prompt", "ADAPTION_PROMPT", {"adapter_len": 4, "adapter_layers": 2}, "llama"),
    Variant("adaption-prompt-gpt2", "ADAPTION_PROMPT", {"adapter_len": 4, "adapter_layers": 1}, "gpt2"),
    _on_attention("BEFT"),
    _on_attention("BOFT", boft_block_size=4),
    _on_attention("BOFT", "bias", boft_block_size=4, bias="boft_only"),
    Variant("boft-convolution", "BOFT", {"boft_block_size": 4, "target_modules": ["convolution"]}, "convolution", None),
    _on_attention("C3A", block_size=8),
    _on_attention("DEFT", r=4),
    _on_attention("DEFT", "para", r=4, para=True),
    _on_attention("DELORA", r=4),
    _on_attention("FOURIERFT", n_frequency=16),
    _on_attention("FROD", progressbar=False),
    _on_attention("FROD", "no-projection", progressbar=False, save_projection=False),
    _on_attention("GLORA", r=4),
    _on_attention("GLORA", "vectors", r=4, config_A_B="vector", config_C="vector", config_D_E="vector"),
    _on_attention("GLORA", "none", r=4, config_A_B="constant", config_C="none", config_D_E="none"),
    _on_attention("GLORA", "vector-c", r=4, config_C="vector"),
    _on_attention("GLORA", "vector-d", r=4, config_D_E="vector"),
    _on_attention("GLORA", "no-c", r=4, config_C="none"),
    _on_attention("GLORA", "no-d", r=4, config_D_E="none"),
    _on_attention("GRALORA", r=8),
    _on_attention("GRALORA", "hybrid", r=8, hybrid_r=4),
    _on_attention("HIRA", r=4),
    Variant("hira-embeddings", "HIRA", {"r": 4, "target_modules": ["embed_tokens", "q_proj"]}),
    Variant("hira-convolution", "HIRA", {"r": 4, "target_modules": ["convolution"]}, "convolution", None),
    _on_attention("HRA", r=4),
    Variant("hra-convolution", "HRA", {"r": 4, "target_modules": ["convolution"]}, "convolution", None),
    _on_attention("IA3", feedforward_modules=[]),
    Variant(
        "ia3-feedforward", "IA3", {"target_modules": ["k_proj", "down_proj"], "feedforward_modules": ["down_proj"]}
    ),
    Variant(
        "ia3-convolution", "IA3", {"target_modules": ["convolution"], "feedforward_modules": []}, "convolution", None
    ),
    _on_attention("LILY", r=4),
    _on_attention("LILY", "shared", r=4, stride_A=2),
    Variant("ln-tuning", "LN_TUNING", {"target_modules": ["input_layernorm"]}),
    Variant("ln-tuning-gpt2", "LN_TUNING", {"target_modules": ["ln_1", "ln_f"]}, "gpt2"),
    _on_attention("LOHA", r=4),
    Variant("loha-convolution", "LOHA", {"r": 4, "target_modules": ["convolution"]}, "convolution", None),
    Variant(
        "loha-effective-convolution",
        "LOHA",
        {"r": 4, "target_modules": ["convolution"], "use_effective_conv2d": True},
        "convolution",
        None,
    ),
    _on_attention("LOKR", r=4),
    _on_attention("LOKR", "decompose-both", r=2, decompose_both=True),
    _on_attention("LOKR", "full-matrices", r=64),
    _on_attention("LOKR", "factor", r=1, decompose_both=True, decompose_factor=8),
    Variant(
        "lokr-effective-convolution",
        "LOKR",
        {"r": 1, "target_modules": ["convolution"], "use_effective_conv2d": True},
        "convolution",
        None,
    ),
    _on_attention("MISS", r=4),
    _on_attention("MISS", "bat", r=4, init_weights="bat"),
    _on_attention("MISS", "mini", r=4, init_weights="mini", mini_r=2),
    _on_attention("OFT", oft_block_size=8),
    _on_attention("OFT", "shared", oft_block_size=8, block_share=True),
    Variant("oft-convolution", "OFT", {"oft_block_size": 4, "target_modules": ["convolution"]}, "convolution", None),
    _on_attention("OSF", effective_rank=4),
    _on_attention("PEANUT", r=4),
    _on_attention("PEANUT", "deep", r=4, depth=2),
    _on_attention("POLY", r=4, n_tasks=2, n_skills=2),
    _on_attention("PSOFT", r=4),
    _on_attention("PSOFT", "plain", r=4, psoft_mag_a=False, psoft_mag_b=False),
    _on_attention("PSOFT", "one-magnitude", r=4, psoft_mag_b=False),
    _on_attention("PVERA", r=4),
    _on_attention("PVERA", "no-projection", r=4, save_projection=False),
    _on_attention("RANDLORA", r=4),
    _on_attention("RANDLORA", "no-projection", r=4, save_projection=False),
    _on_attention("ROAD", group_size=8),
    _on_attention("ROAD", "4", group_size=8, variant="road_4"),
    Variant("shadow", "SHADOW"),
    _on_attention("SHIRA", r=2),
    _on_attention("SUPERTUNING"),
    _on_attention("SUPERTUNING", "lora", r=4, lora_alpha=8),
    _on_attention("SUPERTUNING", "no-indices", save_precomputed_indices=False),
    _on_attention("TINYLORA", u=8),
    _on_attention("TINYLORA", "no-projection", u=8, save_projection=False),
    _on_attention("TINYLORA", "tied", u=8, weight_tying=1.0),
    Variant("trainable-tokens", "TRAINABLE_TOKENS", {"token_indices": [1, 2], "target_modules": ["embed_tokens"]}),
    Variant(
        "trainable-tokens-tied",
        "TRAINABLE_TOKENS",
        {"token_indices": [1, 2], "target_modules": ["embed_tokens"]},
        "qwen2-tied",
    ),
    _on_attention("UNILORA", r=2, theta_d_length=16),
    _on_attention("UNILORA", "indices", r=2, theta_d_length=16, save_indices=True),
    _on_attention("VBLORA", r=2, num_vectors=8, vector_length=8),
    _on_attention("VBLORA", "topk", r=2, num_vectors=8, vector_length=8, save_only_topk_weights=True),
    _on_attention("VERA", r=4),
    _on_attention("VERA", "no-projection", r=4, save_projection=False),
    _on_attention("WAVEFT", n_frequency=16),
    Variant("xlora", "XLORA", {"hidden_size": HIDDEN, "xlora_size": 8, "adapters": lambda: _saved_experts()}, "xlora"),
)

PROMPT_VARIANTS = (
    _prompt("PROMPT_TUNING"),
    _prompt("PROMPT_TUNING", "t5", "t5", "SEQ_2_SEQ_LM"),
    _prompt("PROMPT_TUNING", "classifier", "bert-classifier", "SEQ_CLS"),
    _prompt("MULTITASK_PROMPT_TUNING", num_tasks=2),
    _prompt("P_TUNING", encoder_hidden_size=16),
    _prompt("P_TUNING", "lstm", encoder_hidden_size=16, encoder_reparameterization_type="LSTM"),
    _prompt("PREFIX_TUNING"),
    _prompt("PREFIX_TUNING", "projection", prefix_projection=True, encoder_hidden_size=16),
    _prompt("PREFIX_TUNING", "t5", "t5", "SEQ_2_SEQ_LM"),
    _prompt("CARTRIDGE", num_frozen_tokens=1),
    Variant(
        "cpt",
        "CPT",
        {"cpt_token_ids": [1, 2, 3], "cpt_mask": [1, 1, 1], "cpt_tokens_type_mask": [1, 2, 4]},
    ),
)

VARIANTS = (*LORA_VARIANTS, *TUNER_VARIANTS, *PROMPT_VARIANTS)
"""Every variant."""
