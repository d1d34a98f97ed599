#!/usr/bin/env bash
# peft 0.21.2 (torch 2.13.0, transformers 5.24.0): `adapter_config.json` lists `target_modules` in the order of a Python
# set. Two saves of one adapter by two processes give files with other bytes, unless PYTHONHASHSEED is fixed: digests of
# whole adapter folders differ though nothing was trained in between.
#
# Expected beforehand: the order in which the user named the modules, or the alphabet's.
# Seen with seeds 1, 2 and 3: three different orders of the same four names.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 peft==0.21.2 transformers==5.24.0 numpy
cat > "$folder/save.py" <<'PYTHON'
import json
import pathlib
import sys

import torch
from peft import LoraConfig, get_peft_model


class Attention(torch.nn.Module):
    def __init__(self):
        super().__init__()
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            setattr(self, name, torch.nn.Linear(4, 4))

    def forward(self, hidden):
        return self.o_proj(self.q_proj(hidden) + self.k_proj(hidden) + self.v_proj(hidden))


folder = pathlib.Path(sys.argv[1])
names = ["q_proj", "k_proj", "v_proj", "o_proj"]
get_peft_model(Attention(), LoraConfig(target_modules=names)).save_pretrained(folder)
print(*json.loads((folder / "adapter_config.json").read_text())["target_modules"])
PYTHON
for seed in 1 2 3; do
  PYTHONHASHSEED=$seed "$folder/venv/bin/python" "$folder/save.py" "$folder/out-$seed" 2> "$folder/errors"
done | tee "$folder/orders"
test "$(sort -u "$folder/orders" | wc -l)" = 3
test "$(tr ' ' '\n' < "$folder/orders" | sort | uniq -c | awk '{ print $1 }' | sort -u)" = 3
