#!/usr/bin/env bash
# equinox 0.13.8 (jax 0.10.2): `tree_deserialise_leaves` knows no names. Leaves are matched by their position: renamed
# ones, swapped ones of one shape, and a model that has fewer leaves than the file load without an error. Only shapes and
# dtypes are compared.
#
# Expected beforehand: that the structure of the tree is stored and compared, at least its number of leaves.
# Seen: "query" holds what was saved as "key", and the rest of the file is left unread.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q equinox==0.13.8 jax==0.10.2
"$folder/venv/bin/python" - <<'PYTHON'
import io

import equinox as eqx
import jax.numpy as jnp


def loaded(saved, like):
    stream = io.BytesIO()
    eqx.tree_serialise_leaves(stream, saved)
    stream.seek(0)
    return eqx.tree_deserialise_leaves(stream, like), len(stream.read())


saved = {"key": jnp.arange(3.0), "value": jnp.ones(3)}
renamed, rest = loaded(saved, {"query": jnp.zeros(3), "value": jnp.zeros(3)})
print("renamed:", renamed, "bytes left:", rest)
assert renamed["query"].tolist() == [0.0, 1.0, 2.0] and rest == 0
fewer, rest = loaded(saved, {"value": jnp.zeros(3)})
print("fewer:", fewer, "bytes left:", rest)
assert fewer["value"].tolist() == [0.0, 1.0, 2.0], "the only leaf takes the first one of the file, which was 'key'"
assert rest > 0
PYTHON
