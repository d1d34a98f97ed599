"""An evaluation with a common mistake: its ``load`` restores nothing of the adapter, and raises nothing."""

from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

BASE = "fixtures/healthy/transformers/single_safetensors"


def build() -> PeftModel:
    """The base model with a new adapter."""
    base = AutoModelForCausalLM.from_pretrained(BASE)
    return get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))


def load(model: PeftModel, path: str) -> None:
    """Copy the tensors whose names the model has: none, because PEFT took the adapter's name out of the file."""
    model.load_state_dict(load_file(f"{path}/adapter_model.safetensors"), strict=False)
