"""Folders of several parts: pipelines, hub caches, quantised models, MemGen with one stage trained."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file

from .adapters import lora
from .common import Animal, quiet
from .models import MODELS


def _sentence_transformer(directory: Path) -> Path:
    MODELS["bert-base-only"]().save_pretrained(directory)
    kinds = ["Transformer", "Pooling", "Dense"]
    paths = ["", "1_Pooling", "2_Dense"]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(zip(kinds, paths, strict=True))
    ]
    (directory / "modules.json").write_text(json.dumps(modules))
    (directory / "1_Pooling").mkdir()
    (directory / "1_Pooling/config.json").write_text(json.dumps({"word_embedding_dimension": 32}))
    (directory / "2_Dense").mkdir()
    dense = {"in_features": 32, "out_features": 8, "bias": True}
    (directory / "2_Dense/config.json").write_text(json.dumps(dense))
    weights = torch.nn.Linear(32, 8).state_dict()
    save_file({f"linear.{name}": value for name, value in weights.items()}, directory / "2_Dense/model.safetensors")
    return directory


def _diffusion_pipeline(directory: Path) -> Path:
    index = {
        "_class_name": "StableDiffusionPipeline",
        "text_encoder": ["transformers", "CLIPTextModel"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (directory / "model_index.json").write_text(json.dumps(index))
    MODELS["bert-base-only"]().save_pretrained(directory / "text_encoder")
    for part in ("unet", "vae"):
        (directory / part).mkdir()
        (directory / part / "config.json").write_text(json.dumps({"_class_name": index[part][1]}))
        weights = {"conv_in.weight": torch.randn(4, 4, 3, 3), "conv_in.bias": torch.randn(4)}
        save_file(weights, directory / part / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    return directory


def _diffusion_lora(directory: Path) -> Path:
    """As diffusers saves a LoRA: no PEFT prefix, no ``adapter_config.json``."""
    weights = {}
    for block in range(2):
        module = f"unet.down_blocks.{block}.attentions.0.to_q"
        weights[f"{module}.lora_A.weight"] = torch.randn(4, 32)
        weights[f"{module}.lora_B.weight"] = torch.randn(32, 4)
    save_file(weights, directory / "pytorch_lora_weights.safetensors", metadata={"format": "pt"})
    return directory / "pytorch_lora_weights.safetensors"


def _hub_cache(directory: Path) -> Path:
    """A snapshot as huggingface_hub keeps it: links to blobs, with locks and unfinished downloads of other files."""
    repository = directory / "models--tiny--qwen2"
    blobs = repository / "blobs"
    snapshot = repository / "snapshots" / ("0123456789" * 4)
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    MODELS["qwen2"]().save_pretrained(directory / "saved")
    for number, file in enumerate(sorted((directory / "saved").iterdir())):
        shutil.move(file, blobs / f"{number:040x}")
        (snapshot / file.name).symlink_to(Path("../../blobs") / f"{number:040x}")
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(snapshot.name)
    return snapshot


def _downloaded_folder(directory: Path) -> Path:
    """A folder that was downloaded with ``local_dir``: bookkeeping and locks lie beside the files."""
    MODELS["qwen2"]().save_pretrained(directory)
    bookkeeping = directory / ".cache/huggingface/download"
    bookkeeping.mkdir(parents=True)
    for name in ("model.safetensors", "config.json"):
        (bookkeeping / f"{name}.metadata").write_text("0123456789\nabcdef\n1700000000.0\n")
        (bookkeeping / f"{name}.lock").touch()
    return directory


def _adapter_beside_its_tokenizer(directory: Path) -> Path:
    lora().save_pretrained(directory, save_embedding_layers=False)
    (directory / "tokenizer_config.json").write_text("{}")
    (directory / "special_tokens_map.json").write_text("{}")
    (directory / "chat_template.jinja").write_text("{{ messages }}")
    return directory


def _quantised(directory: Path, kind: str) -> Path:
    model = MODELS["qwen2"]()
    model.config.quantization_config = {"quant_method": kind, "bits": 8}
    model.config.save_pretrained(directory)
    weights: dict[str, torch.Tensor] = {}
    for name, value in model.state_dict().items():
        if not name.endswith("_proj.weight"):
            weights[name] = value.half()
        elif kind == "gptq":
            module = name.removesuffix(".weight")
            rows, columns = value.shape
            weights[f"{module}.qweight"] = torch.randint(-100, 100, (columns // 4, rows), dtype=torch.int32)
            weights[f"{module}.qzeros"] = torch.zeros(1, rows // 4, dtype=torch.int32)
            weights[f"{module}.scales"] = torch.rand(1, rows).half()
            weights[f"{module}.g_idx"] = torch.zeros(columns, dtype=torch.int32)
        elif kind == "bitsandbytes":
            weights[name] = value.mul(100).to(torch.int8)
            weights[name.replace(".weight", ".SCB")] = value.abs().amax(1)
            weights[name.replace(".weight", ".weight_format")] = torch.tensor(0, dtype=torch.uint8)
        else:
            weights[name] = value.to(torch.float8_e4m3fn)
            weights[f"{name}_scale_inv"] = torch.rand(1, 1)
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def _memgen_first_stage(directory: Path) -> Path:
    """MemGen after its first stage: the weaver is trained, the trigger is not active and still as PEFT made it."""
    import memgen
    from peft import get_peft_model
    from tiny_models import REASONER_HIDDEN, adapted, lora_config, qwen2

    weaver = adapted(qwen2(seed=1), "weaver")
    trigger = get_peft_model(qwen2(seed=1), lora_config(), adapter_name="trigger")
    model = memgen.MemGenModel(qwen2(REASONER_HIDDEN), weaver, trigger, REASONER_HIDDEN)
    memgen.save_upstream(model, directory / "model", trigger_active=False)
    return directory / "model"


def _animals() -> Iterator[tuple[str, Animal]]:
    yield "sentence-transformer", _sentence_transformer
    yield "diffusion-pipeline", _diffusion_pipeline
    yield "diffusion-lora", _diffusion_lora
    yield "hub-cache", _hub_cache
    yield "downloaded-folder", _downloaded_folder
    yield "adapter-beside-its-tokenizer", _adapter_beside_its_tokenizer
    for kind in ("gptq", "bitsandbytes", "fp8"):
        yield f"quantised-{kind}", functools.partial(_quantised, kind=kind)
    yield "memgen-first-stage", _memgen_first_stage


ANIMALS: dict[str, Animal] = {name: quiet(animal) for name, animal in _animals()}
