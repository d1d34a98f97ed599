#!/usr/bin/env bash
# torch 2.13.0: `load_state_dict(state, assign=True)` writes `assign_to_params_buffers` into the metadata that the state
# dict carries. From then on every `load_state_dict(state)` assigns instead of copying, also with `assign=False`, also
# after `torch.save` and `torch.load`: two models that were loaded from one state dict share their weights, and training
# one changes the other. A plain `dict(state)` has no metadata, and copies.
#
# Expected beforehand: that `assign` holds for the one call.
# Seen: before, a copy; afterwards the storage of the state dict, twice; zeros in the second model when the first is
# zeroed; the entry in the metadata of the file.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import torch


def loaded(state, **options):
    model = torch.nn.Linear(4, 4)
    model.load_state_dict(state, **options)
    return model, model.weight.data_ptr() == state["weight"].data_ptr()


state = torch.nn.Linear(4, 4).state_dict()
_, shares = loaded(state)
print("before: shares its storage:", shares)
assert not shares
first, _ = loaded(state, assign=True)
second, shares = loaded(state)
_, shares_explicitly = loaded(state, assign=False)
print("after: shares its storage:", shares, "and with assign=False:", shares_explicitly)
assert shares and shares_explicitly
torch.nn.init.zeros_(first.weight)
assert not second.weight.any()
print("the second model follows the first")
torch.save(state, "state.pt")
again = torch.load("state.pt", weights_only=True)
print("metadata in the file:", dict(again._metadata[""]))
assert loaded(again)[1]
assert not loaded(dict(state))[1]
PYTHON
