"""Evaluate a LoRA adapter: ``python evaluate.py CHECKPOINT``."""

import sys

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, PreTrainedModel

BASE = "fixtures/healthy/transformers/single_safetensors"


def build() -> PreTrainedModel:
    """The model before the checkpoint is loaded."""
    return AutoModelForCausalLM.from_pretrained(BASE)


def load(model: PreTrainedModel, path: str) -> PeftModel:
    """Load the checkpoint at ``path`` into the model."""
    return PeftModel.from_pretrained(model, path)


if __name__ == "__main__":
    model, tokens = load(build(), sys.argv[1]).eval(), torch.arange(8).unsqueeze(0)
    with torch.no_grad():
        print(f"loss {model(input_ids=tokens, labels=tokens).loss:.3f}")
