"""What a weight file is called in the other format: the names that PEFT, transformers and diffusers look for."""

from __future__ import annotations

import re
from typing import get_args

from ckpt_doctor.core.actions import TargetFormat

FORMATS: tuple[TargetFormat, ...] = get_args(TargetFormat)
"""Values of ``--to``."""

ENDINGS: dict[TargetFormat, tuple[str, ...]] = {
    "safetensors": (".safetensors",),
    "bin": (".bin", ".pt", ".pth", ".ckpt"),
}
"""By format, what files in it end in."""

# transformers calls a whole model by another stem in each format; adapters and diffusers keep theirs. What follows is
# a shard's number or a variant such as ".fp16", in either order, and of an index its ending.
_STEM: dict[TargetFormat, tuple[str, str]] = {
    "safetensors": ("pytorch_model", "model"),
    "bin": ("model", "pytorch_model"),
}
_REST = r"(?:[.-](?!index\b)[\w-]+)*?"
_INDEX = re.compile(r"(?P<stem>.+)\.(?:safetensors|bin)\.index(?P<variant>\.[\w-]+)?\.json")


# Names that a library opens without being told: those of PEFT, transformers, diffusers and MemGen. "model.bin" is none.
_OPENED = re.compile(
    r"(pytorch_model|adapter_model|diffusion_pytorch_model)([.-][\w-]+)*\.bin|(projs|weaver|trigger)\.bin|projections\.pt"
    r"|.*\.safetensors"
)
_TORCH = (".pt", ".pth", ".ckpt")


def is_opened_by_name(path: str, *, weights: bool) -> bool:
    """True if a loader opens a file of this name as torch's or safetensors' without looking into it.

    ``weights`` says that weights of another kind are in it: some of these have the endings of torch too.

    >>> [is_opened_by_name(name, weights=True) for name in ("a/adapter_model.bin", "model.bin", "x.pt")]
    [True, False, False]
    """
    name = path.rpartition("/")[2]
    return _OPENED.fullmatch(name) is not None or (not weights and name.lower().endswith(_TORCH))


def converted_name(name: str, to: TargetFormat) -> str:
    """The file name under which the weights of ``name`` are looked for in format ``to``.

    >>> converted_name("pytorch_model-00001-of-00002.bin", "safetensors"), converted_name("adapter_model.bin", "bin")
    ('model-00001-of-00002.safetensors', 'adapter_model.bin')
    >>> converted_name("model.fp16.safetensors", "bin"), converted_name("projections.pt", "safetensors")
    ('pytorch_model.fp16.bin', 'projections.safetensors')
    """
    if name.endswith(ENDINGS[to]):
        return name
    other: TargetFormat = "bin" if to == "safetensors" else "safetensors"
    ending = next((ending for ending in ENDINGS[other] if name.endswith(ending)), "")
    return _renamed_stem(name.removesuffix(ending), to) + ENDINGS[to][0]


def converted_index(name: str, to: TargetFormat) -> str:
    """The file name of an index of the converted shards.

    >>> converted_index("pytorch_model.bin.index.json", "safetensors")
    'model.safetensors.index.json'
    """
    found = _INDEX.fullmatch(name)
    if found is None:
        return name
    return f"{_renamed_stem(found['stem'], to)}{ENDINGS[to][0]}.index{found['variant'] or ''}.json"


def _renamed_stem(stem: str, to: TargetFormat) -> str:
    old, new = _STEM[to]
    found = re.fullmatch(rf"{old}(?P<rest>{_REST})", stem)
    return f"{new}{found['rest']}" if found else stem
