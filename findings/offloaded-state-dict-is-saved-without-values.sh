#!/usr/bin/env bash
# torch 2.13.0 with accelerate 1.15.0: `torch.save(model.state_dict(), path)` of a model that `accelerate.cpu_offload` has
# offloaded writes tensors of the meta device: names, dtypes and shapes, and no values. Nothing warns, and `torch.load`
# reads the file. `load_state_dict` raises, and with `assign=True` puts the empty tensors into a model without an error.
#
# Expected beforehand: an error on saving, or the values.
# Seen: every tensor of the loaded file is on the meta device; "<All keys matched successfully>" with assign=True.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 accelerate==1.15.0 numpy
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import accelerate
import torch

torch.set_num_threads(1)
model = torch.nn.Linear(64, 64)
accelerate.cpu_offload(model, execution_device="cpu")
torch.save(model.state_dict(), "model.pt")
loaded = torch.load("model.pt", map_location="cpu")
print({name: str(tensor.device) for name, tensor in loaded.items()})
assert {tensor.device.type for tensor in loaded.values()} == {"meta"}
other = torch.nn.Linear(64, 64)
print(other.load_state_dict(dict(loaded), assign=True))
assert other.weight.device.type == "meta"
try:
    torch.nn.Linear(64, 64).load_state_dict(dict(loaded))
except RuntimeError:
    print("without assign: RuntimeError")
else:
    raise SystemExit("without assign it loads now")
PYTHON
