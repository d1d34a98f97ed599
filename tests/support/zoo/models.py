"""Whole models as transformers saves them, from tiny configurations."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers

from .common import Animal, disturb, quiet

_TEXT: Mapping[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GROUPED = {**_TEXT, "num_key_value_heads": 2}
_VISION: Mapping[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 16,
    "patch_size": 8,
}


def _model(architecture: str, config: str, settings: Mapping[str, Any], **more: Any) -> Callable[[], torch.nn.Module]:
    def build() -> torch.nn.Module:
        made = getattr(transformers, config)(**{**settings, **more})
        return disturb(getattr(transformers, architecture)(made))

    return build


def _clip() -> torch.nn.Module:
    text = {**_TEXT, "projection_dim": 16}
    return disturb(transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=dict(_VISION))))


def _llava() -> torch.nn.Module:
    config = transformers.LlavaConfig(
        text_config=transformers.LlamaConfig(**_GROUPED),
        vision_config=transformers.CLIPVisionConfig(**_VISION),
        image_token_index=3,
    )
    return disturb(transformers.LlavaForConditionalGeneration(config))


def _encoder_decoder() -> torch.nn.Module:
    config = transformers.EncoderDecoderConfig.from_encoder_decoder_configs(
        transformers.BertConfig(**_TEXT), transformers.BertConfig(**_TEXT)
    )
    return disturb(transformers.EncoderDecoderModel(config))


_T5 = {"vocab_size": 64, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
_GPT2 = {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "eos_token_id": 2}
_BART = {
    "vocab_size": 64,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
}
_WHISPER = {
    **{key: value for key, value in _BART.items() if key != "max_position_embeddings"},
    "num_mel_bins": 8,
    "max_source_positions": 16,
    "max_target_positions": 16,
}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_LINEAR_ATTENTION = {
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "head_dim": 8,
}
_LATENT_ATTENTION = {
    "q_lora_rank": 8,
    "kv_lora_rank": 8,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,
    "num_key_value_heads": 4,
}
_DISTILBERT = {
    "vocab_size": 64,
    "dim": 32,
    "hidden_dim": 64,
    "n_layers": 2,
    "n_heads": 4,
    "max_position_embeddings": 64,
}

MODELS: Mapping[str, Callable[[], torch.nn.Module]] = {
    "qwen2": _model("Qwen2ForCausalLM", "Qwen2Config", _GROUPED, tie_word_embeddings=False),
    "qwen2-tied": _model("Qwen2ForCausalLM", "Qwen2Config", _GROUPED, tie_word_embeddings=True),
    "qwen2-base-only": _model("Qwen2Model", "Qwen2Config", _GROUPED),
    "qwen2-classifier": _model("Qwen2ForSequenceClassification", "Qwen2Config", _GROUPED, num_labels=3),
    "llama": _model("LlamaForCausalLM", "LlamaConfig", _GROUPED),
    "mistral": _model("MistralForCausalLM", "MistralConfig", _GROUPED),
    "phi3": _model("Phi3ForCausalLM", "Phi3Config", _GROUPED),
    "gemma": _model("GemmaForCausalLM", "GemmaConfig", _GROUPED, head_dim=8),
    "gemma3": _model("Gemma3ForCausalLM", "Gemma3TextConfig", _GROUPED, head_dim=8),
    "gpt2": _model("GPT2LMHeadModel", "GPT2Config", _GPT2),
    "gpt2-base-only": _model("GPT2Model", "GPT2Config", _GPT2),
    "gpt-neox": _model("GPTNeoXForCausalLM", "GPTNeoXConfig", _TEXT),
    "gptj": _model("GPTJForCausalLM", "GPTJConfig", _GPT2, rotary_dim=4),
    "opt": _model("OPTForCausalLM", "OPTConfig", _TEXT, ffn_dim=64, word_embed_proj_dim=32),
    "bloom": _model(
        "BloomForCausalLM", "BloomConfig", {"vocab_size": 64, "hidden_size": 32, "n_layer": 2, "n_head": 4}
    ),
    "falcon": _model("FalconForCausalLM", "FalconConfig", _TEXT),
    "mixtral": _model("MixtralForCausalLM", "MixtralConfig", _GROUPED, num_local_experts=4),
    "qwen3-moe": _model("Qwen3MoeForCausalLM", "Qwen3MoeConfig", _GROUPED, **_EXPERTS, mlp_only_layers=[0]),
    "deepseek-v3": _model("DeepseekV3ForCausalLM", "DeepseekV3Config", _TEXT, **_LATENT_ATTENTION),
    "qwen3-next": _model(
        "Qwen3NextForCausalLM", "Qwen3NextConfig", {**_GROUPED, "num_hidden_layers": 4}, **_EXPERTS, **_LINEAR_ATTENTION
    ),
    "jamba": _model(
        "JambaForCausalLM",
        "JambaConfig",
        {**_GROUPED, "num_hidden_layers": 4},
        attn_layer_period=4,
        attn_layer_offset=2,
        expert_layer_period=2,
        num_experts=2,
        mamba_dt_rank=4,
        mamba_d_state=4,
        use_mamba_kernels=False,
    ),
    "mamba": _model(
        "MambaForCausalLM",
        "MambaConfig",
        {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4, "time_step_rank": 4},
    ),
    "rwkv": _model("RwkvForCausalLM", "RwkvConfig", {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2}),
    "bert-masked-lm": _model("BertForMaskedLM", "BertConfig", _TEXT),
    "bert-pretraining": _model("BertForPreTraining", "BertConfig", _TEXT),
    "bert-base-only": _model("BertModel", "BertConfig", _TEXT),
    "roberta": _model("RobertaForMaskedLM", "RobertaConfig", _TEXT),
    "albert": _model("AlbertForMaskedLM", "AlbertConfig", {**_TEXT, "num_hidden_layers": 4}, embedding_size=16),
    "electra": _model("ElectraForPreTraining", "ElectraConfig", _TEXT, embedding_size=16),
    "deberta-v2": _model("DebertaV2ForMaskedLM", "DebertaV2Config", _TEXT),
    "nomic-bert": _model(
        "NomicBertForMaskedLM",
        "NomicBertConfig",
        {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 64, "head_dim": 8},
    ),
    "modernbert": _model("ModernBertForMaskedLM", "ModernBertConfig", _TEXT),
    "distilbert": _model("DistilBertForMaskedLM", "DistilBertConfig", _DISTILBERT),
    "t5": _model("T5ForConditionalGeneration", "T5Config", _T5, decoder_start_token_id=0),
    "t5-uneven": _model("T5ForConditionalGeneration", "T5Config", _T5, num_decoder_layers=1, decoder_start_token_id=0),
    "t5-encoder": _model("T5EncoderModel", "T5Config", _T5),
    "mt5-untied": _model(
        "MT5ForConditionalGeneration", "MT5Config", _T5, tie_word_embeddings=False, decoder_start_token_id=0
    ),
    "bart": _model("BartForConditionalGeneration", "BartConfig", _BART),
    "whisper": _model("WhisperForConditionalGeneration", "WhisperConfig", _WHISPER),
    "encoder-decoder": _encoder_decoder,
    "vit": _model("ViTForImageClassification", "ViTConfig", _VISION),
    "resnet": _model(
        "ResNetForImageClassification",
        "ResNetConfig",
        {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 2], "layer_type": "basic"},
    ),
    "swin": _model(
        "SwinModel",
        "SwinConfig",
        {"image_size": 16, "patch_size": 2, "embed_dim": 8, "depths": [1, 2], "num_heads": [1, 2], "window_size": 2},
    ),
    "wav2vec2": _model(
        "Wav2Vec2ForCTC",
        "Wav2Vec2Config",
        _TEXT,
        conv_dim=[16, 16],
        conv_kernel=[3, 3],
        conv_stride=[2, 2],
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
    ),
    "clip": _clip,
    "llava": _llava,
}


def _save(name: str, directory: Path, **options: Any) -> Path:
    MODELS[name]().save_pretrained(directory, **options)
    return directory


def _bfloat16(directory: Path) -> Path:
    MODELS["qwen2"]().to(torch.bfloat16).save_pretrained(directory)
    return directory


def _with_variant(directory: Path) -> Path:
    MODELS["qwen2"]().to(torch.float16).save_pretrained(directory, variant="fp16")
    return directory


def save_bin(name: str, directory: Path, shards: int = 1) -> Path:
    """As ``save_pretrained`` did with ``safe_serialization=False``: tied tensors stay tied within a file."""
    model = MODELS[name]()
    model.config.save_pretrained(directory)
    state = model.state_dict()
    if shards == 1:
        torch.save(state, directory / "pytorch_model.bin")
        return directory
    names = list(state)
    weight_map: dict[str, str] = {}
    size = 0
    for number in range(shards):
        chunk = names[number * len(names) // shards : (number + 1) * len(names) // shards]
        file = f"pytorch_model-{number + 1:05}-of-{shards:05}.bin"
        torch.save({key: state[key].clone() for key in chunk}, directory / file)
        weight_map.update(dict.fromkeys(chunk, file))
        size += sum(state[key].numel() * state[key].element_size() for key in chunk)
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (directory / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return directory


def _both_formats(directory: Path) -> Path:
    _save("qwen2", directory)
    torch.manual_seed(0)
    return save_bin("qwen2", directory)


def _animals() -> Iterator[tuple[str, Animal]]:
    for name in MODELS:
        yield name, functools.partial(_save, name)
    for name in ("qwen2-tied", "gpt2", "t5", "bert-masked-lm", "bart", "mamba"):
        yield f"{name}-bin", functools.partial(save_bin, name)
    for name in ("qwen2-tied", "llama", "t5"):
        yield f"{name}-sharded", functools.partial(_save, name, max_shard_size="30KB")
    yield "qwen2-sharded-bin", functools.partial(save_bin, "qwen2", shards=3)
    yield "qwen2-tied-sharded-bin", functools.partial(save_bin, "qwen2-tied", shards=3)
    yield "qwen2-bfloat16", _bfloat16
    yield "qwen2-variant", _with_variant
    yield "qwen2-both-formats", _both_formats


ANIMALS: dict[str, Animal] = {name: quiet(animal) for name, animal in _animals()}
