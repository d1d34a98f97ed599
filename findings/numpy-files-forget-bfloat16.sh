#!/usr/bin/env bash
# numpy 2.4.6 with ml_dtypes 0.6.0 (what JAX uses for bfloat16 and float8): `np.save` and `np.savez` store bfloat16 as
# `|V2` and float8_e4m3fn as `|V1`. What loads them gets voids: the values are whole, the dtype is gone. float8_e5m2 is
# stored as `<f1`, which numpy itself refuses to load.
#
# Expected beforehand: an error on saving, or the dtype's name in the header; the same for both kinds of float8.
# Seen: voids for the first two (a view as the right dtype brings the values back); a ValueError for the third when it is
# loaded, not when it is saved.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q numpy==2.4.6 ml_dtypes==0.6.0
"$folder/venv/bin/python" - <<'PYTHON'
import io

import ml_dtypes
import numpy as np


def saved(name):
    stream = io.BytesIO()
    np.savez(stream, w=np.array([1.0, -2.0, 0.5], dtype=getattr(ml_dtypes, name)))
    stream.seek(0)
    return stream


for name, kind in {"bfloat16": "|V2", "float8_e4m3fn": "|V1"}.items():
    back = np.load(saved(name))["w"]
    print(name, "->", back.dtype.str)
    assert back.dtype.str == kind, back.dtype
    assert back.view(getattr(ml_dtypes, name)).astype("float32").tolist() == [1.0, -2.0, 0.5]

stream = saved("float8_e5m2")
try:
    np.load(stream)["w"]
except ValueError as error:
    print("float8_e5m2 ->", error)
    assert "<f1" in str(error)
else:
    raise SystemExit("float8_e5m2 can be loaded now")
PYTHON
