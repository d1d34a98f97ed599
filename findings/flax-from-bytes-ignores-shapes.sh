#!/usr/bin/env bash
# flax 0.12.8 (numpy arrays, msgpack): `flax.serialization.from_bytes(target, data)` raises only where the target has a
# key that the data lacks. Another shape or dtype than the target's is returned as it is stored, and keys that the target
# does not have are dropped. A checkpoint of another size of model loads without a word and fails, or broadcasts, later.
#
# Expected beforehand: an error for another shape.
# Seen: shape (2, 3) for a target of (5, 7), float64 for a target of float16, "b" dropped; ValueError for a missing key.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q flax==0.12.8 jax==0.10.2
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
from flax import serialization

data = serialization.to_bytes({"w": np.ones((2, 3)), "b": np.zeros(3)})
other_shape = serialization.from_bytes({"w": np.zeros((5, 7)), "b": np.zeros(3)}, data)
other_dtype = serialization.from_bytes({"w": np.zeros((2, 3), np.float16), "b": np.zeros(3)}, data)
fewer = serialization.from_bytes({"w": np.zeros((2, 3))}, data)
print(other_shape["w"].shape, other_dtype["w"].dtype, sorted(fewer))
assert other_shape["w"].shape == (2, 3)
assert other_dtype["w"].dtype == np.float64
assert sorted(fewer) == ["w"]
try:
    serialization.from_bytes({"w": np.zeros((2, 3)), "b": np.zeros(3), "c": np.zeros(1)}, data)
except ValueError as error:
    print("ValueError:", str(error)[:70])
else:
    raise SystemExit("a missing key raises no longer")
PYTHON
