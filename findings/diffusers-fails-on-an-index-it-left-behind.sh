#!/usr/bin/env bash
# diffusers 0.42.1: `save_pretrained` with one file into a folder that holds shards of an earlier save removes the shards
# and leaves their index. `from_pretrained` looks for the index first, and raises FileNotFoundError for a shard that is
# gone, although the new weights are whole.
#
# Expected beforehand: that the index goes with the shards, as it came with them.
# Seen: config.json, diffusion_pytorch_model.safetensors and diffusion_pytorch_model.safetensors.index.json;
# FileNotFoundError naming diffusion_pytorch_model-00001-of-0000N.safetensors.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 diffusers==0.42.1 safetensors==0.8.0 numpy
cd "$folder"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PYTHON'
import os

import torch
from diffusers import UNet2DModel

torch.set_num_threads(1)
unet = UNet2DModel(
    sample_size=8,
    layers_per_block=1,
    block_out_channels=(32,),
    norm_num_groups=8,
    down_block_types=("DownBlock2D",),
    up_block_types=("UpBlock2D",),
)
unet.save_pretrained("unet", max_shard_size="100KB")
assert len(os.listdir("unet")) > 3
unet.save_pretrained("unet")
stem = "diffusion_pytorch_model"
print(sorted(os.listdir("unet")))
assert sorted(os.listdir("unet")) == ["config.json", f"{stem}.safetensors", f"{stem}.safetensors.index.json"]
try:
    UNet2DModel.from_pretrained("unet")
except FileNotFoundError as error:
    print("FileNotFoundError:", error)
    assert f"{stem}-00001-of-" in str(error)
else:
    raise SystemExit("it loads now")
PYTHON
