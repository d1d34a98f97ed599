#!/usr/bin/env bash
# torch 2.13.0: `torch.save(..., _use_new_zipfile_serialization=False)` writes float8 and uint16 tensors without an error,
# and `torch.load` cannot read the file, with `weights_only=True` or without. The zip format has no trouble with them.
#
# Expected beforehand: an error on saving, or a file that loads.
# Seen: "AttributeError: type object 'torch.storage.UntypedStorage' has no attribute 'dtype'" on loading, both ways.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import torch


def outcome(dtype, weights_only, **options):
    torch.save({"w": torch.ones(2).to(dtype)}, "state.pt", **options)
    try:
        torch.load("state.pt", weights_only=weights_only)
    except AttributeError as error:
        return str(error)
    return "loads"


old = {"_use_new_zipfile_serialization": False}
for dtype in (torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.uint16):
    seen = [outcome(dtype, weights_only, **old) for weights_only in (True, False)]
    print(dtype, seen)
    assert outcome(dtype, True) == "loads"
    if dtype in (torch.float32, torch.bfloat16):
        assert seen == ["loads", "loads"]
    else:
        assert all("UntypedStorage" in text and "dtype" in text for text in seen)
PYTHON
