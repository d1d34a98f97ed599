#!/usr/bin/env bash
# torch 2.13.0 with numpy 2: a state dict with one numpy float beside its tensors. `torch.load`'s default asks for the
# names in the pickle one by one, and when all of them are allowed it still stops: at `numpy.dtypes.Float64DType`, which
# no opcode of the pickle names. A list of what to allow cannot be made from the pickle alone.
#
# Expected beforehand: that the names in the pickle are enough.
# Seen: scalar and dtype are in the pickle; the third thing to allow, Float64DType, is not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 'numpy==2.4.*'
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import pickle
import pickletools
import zipfile

import numpy
import torch

torch.save({"w": torch.ones(2), "best": numpy.float64(0.5)}, "state.pt")
with zipfile.ZipFile("state.pt") as archive:
    (name,) = [name for name in archive.namelist() if name.endswith("data.pkl")]
    named = [argument for opcode, argument, _ in pickletools.genops(archive.read(name)) if opcode.name == "GLOBAL"]
print(named)
assert "numpy dtype" in named and not any("Float64DType" in text for text in named)


def refused(allowed):
    with torch.serialization.safe_globals(allowed):
        try:
            torch.load("state.pt")
        except pickle.UnpicklingError as error:
            return str(error)
    return None


scalar = numpy._core.multiarray.scalar
assert "numpy._core.multiarray.scalar" in refused([])
assert "numpy.dtype" in refused([scalar])
assert "numpy.dtypes.Float64DType" in refused([scalar, numpy.dtype])
assert refused([scalar, numpy.dtype, numpy.dtypes.Float64DType]) is None
print("also needed: numpy.dtypes.Float64DType")
PYTHON
