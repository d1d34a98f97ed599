"""Which package to install for a name that a pickle refers to."""

from __future__ import annotations

_DISTRIBUTIONS = {
    **{name: name for name in ("numpy", "omegaconf", "transformers", "accelerate", "peft", "trl", "deepspeed")},
    **{name: name for name in ("llamafactory", "axolotl", "lightning", "torchao")},
    "lightning_fabric": "lightning",
    "pytorch_lightning": "pytorch-lightning",
    "sentence_transformers": "sentence-transformers",
}


def package_of(name: str) -> str | None:
    """The package that brings a class or function of this dotted name; ``None`` for Python's and torch's own.

    >>> package_of("omegaconf.dictconfig.DictConfig"), package_of("pathlib.PosixPath")
    ('omegaconf', None)
    """
    return _DISTRIBUTIONS.get(name.partition(".")[0])
