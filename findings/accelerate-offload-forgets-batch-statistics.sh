#!/usr/bin/env bash
# accelerate 1.15.0 (torch 2.13.0): `load_checkpoint_and_dispatch` with a module on "disk" loads its parameters and leaves
# its buffers as they were made, since `offload_buffers` is off by default: a BatchNorm runs with mean 0 and variance 1
# in place of the checkpoint's statistics. No warning names them, and the outputs are wrong.
#
# Expected beforehand: buffers loaded into memory where only parameters are offloaded.
# Seen: running_mean [0, 0, 0, 0] for [1, 2, 3, 4] and other outputs; with `offload_buffers=True` the right outputs.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 accelerate==1.15.0 numpy
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from accelerate import load_checkpoint_and_dispatch

torch.set_num_threads(1)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(3, 4)
        self.norm = torch.nn.BatchNorm1d(4)

    def forward(self, values):
        return self.norm(self.first(values))


source = Net().eval()
source.norm.running_mean.copy_(torch.arange(1.0, 5.0))
torch.save(source.state_dict(), "model.bin")
values = torch.ones(2, 3)


def dispatched(folder, **options):
    places = {"first": "cpu", "norm": "disk"}
    return load_checkpoint_and_dispatch(Net(), "model.bin", places, offload_folder=folder, **options).eval()


default = dispatched("one")
print("by default:", default.norm.running_mean.tolist())
assert default.norm.running_mean.tolist() == [0.0, 0.0, 0.0, 0.0]
assert not torch.allclose(default(values), source(values))
asked = dispatched("two", offload_buffers=True)
assert torch.allclose(asked(values), source(values))
print("with offload_buffers=True the outputs are right")
PYTHON
