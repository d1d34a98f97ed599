#!/usr/bin/env bash
# accelerate 1.15.0 (torch 2.13.0, safetensors 0.8.0): `load_checkpoint_in_model(..., strict=True)` and
# `load_checkpoint_and_dispatch(..., strict=True)` raise for a tensor that the model does not have, and say nothing
# where the checkpoint lacks one that the model has: that parameter keeps its random start.
#
# Expected beforehand: an error for both, as with `load_state_dict(strict=True)`.
# Seen: no error for a missing tensor from either; for an unexpected one a RuntimeError from the first, and an
# AttributeError ("object has no attribute") from the second, which loads tensor by tensor.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 accelerate==1.15.0 safetensors==0.8.0 numpy
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from accelerate import load_checkpoint_and_dispatch, load_checkpoint_in_model
from safetensors.torch import save_file

torch.set_num_threads(1)


def model():
    return torch.nn.Sequential(torch.nn.Linear(4, 4, bias=False), torch.nn.Linear(4, 2, bias=False))


def outcome(load, tensors):
    save_file(tensors, "model.safetensors", {"format": "pt"})
    target = model()
    before = target[1].weight.detach().clone()
    try:
        load(target)
    except (RuntimeError, AttributeError) as error:
        return type(error).__name__
    return "no error" if torch.equal(before, target[1].weight.detach()) else "loaded"


first, second = {"0.weight": torch.ones(4, 4)}, {"1.weight": torch.ones(2, 4)}
stray = {"2.weight": torch.ones(2, 2)}
for name, load, refusal in (
    (
        "load_checkpoint_in_model",
        lambda target: load_checkpoint_in_model(target, "model.safetensors", strict=True),
        "RuntimeError",
    ),
    (
        "load_checkpoint_and_dispatch",
        lambda target: load_checkpoint_and_dispatch(target, "model.safetensors", device_map={"": "cpu"}, strict=True),
        "AttributeError",
    ),
):
    seen = {"missing": outcome(load, first), "unexpected": outcome(load, first | second | stray)}
    print(name, seen)
    assert seen == {"missing": "no error", "unexpected": refusal}, seen
PYTHON
