#!/usr/bin/env bash
# transformers 5.24.0 with huggingface_hub 2.4.0: after a save in shards and a later one in a single file, the index of the
# first is still there. `from_pretrained` reads the single file; `huggingface_hub.load_torch_model` of the same folder
# goes by the index and raises FileNotFoundError for a shard that the second save removed.
#
# Expected beforehand: that both read the same file.
# Seen: the single file's values from transformers; FileNotFoundError from huggingface_hub.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.24.0 huggingface_hub==2.4.0 safetensors==0.8.0 numpy
cd "$folder"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - 2> "$folder/progress" <<'PYTHON'
import os

import torch
from huggingface_hub import load_torch_model
from transformers import LlamaConfig, LlamaForCausalLM

torch.set_num_threads(1)
sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
model = LlamaForCausalLM(LlamaConfig(**sizes, tie_word_embeddings=False))
model.save_pretrained("model", max_shard_size="20KB")
with torch.no_grad():
    model.lm_head.weight.add_(1.0)
model.save_pretrained("model")
print(sorted(os.listdir("model")))
assert "model.safetensors" in os.listdir("model") and "model.safetensors.index.json" in os.listdir("model")
read = LlamaForCausalLM.from_pretrained("model")
assert torch.equal(read.lm_head.weight, model.lm_head.weight)
print("transformers reads the second save")
try:
    load_torch_model(LlamaForCausalLM(model.config), "model")
except FileNotFoundError as error:
    print("huggingface_hub:", type(error).__name__, os.path.basename(str(error).split("'")[1]))
else:
    raise SystemExit("huggingface_hub reads it now")
PYTHON
