#!/usr/bin/env bash
# peft 0.21.2 (torch 2.13.0, transformers 5.24.0): `PeftModel.from_pretrained(model, path)` where `model` is the
# `base_model` of another PeftModel, and so a LoraModel already. Every name gets one `model.` more than the file has,
# nothing is restored, and the only sign is a warning about missing keys.
#
# Expected beforehand: an error, or that the adapter already there is loaded.
# Seen: 4 of 4 lora_B arrive in a plain model, 0 of 4 in the LoraModel.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 peft==0.21.2 transformers==5.24.0 numpy
cd "$folder"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

torch.set_num_threads(1)


def base():
    sizes = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2}
    return LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=2))


def lora(model):
    return get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))


def arrived(model):
    found = [weight for name, weight in model.named_parameters() if "lora_B" in name]
    return sum(bool((weight == 1).all()) for weight in found), len(found)


trained = lora(base())
for name, weight in trained.named_parameters():
    if "lora_B" in name:
        torch.nn.init.ones_(weight)
trained.save_pretrained("adapter")
plain = arrived(PeftModel.from_pretrained(base(), "adapter"))
nested = arrived(PeftModel.from_pretrained(lora(base()).base_model, "adapter"))
print("on a plain model", plain, "on a LoraModel", nested)
assert plain == (4, 4) and nested == (0, 4)
PYTHON
