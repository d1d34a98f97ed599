"""CKD509."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ckpt_doctor.core.actions import Rewrite
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Fix, Severity
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import byte_size, counted, listed

from ._kit.repairs import casting
from ._kit.rule import Rule

_WIDE = ("float64", "float32", "float16", "bfloat16")


class DtypeSurprise(Rule):
    """The weights have another dtype than one would expect.

    ## What it does
    Compares the dtype of most of a model's weights with `dtype` (or `torch_dtype`) in `config.json`, and the dtypes of
    an adapter's tensors with each other. If a variant (`model.fp16.safetensors`) in the same folder has the dtype of
    the configuration, the other files are not judged: the last save wrote the configuration.

    ## Why is this bad?
    A model in float32 takes twice the disk and memory of the bfloat16 that its configuration promises. Mixed dtypes in
    one adapter usually come from two stages of training that were saved differently.

    ## Example
    `"torch_dtype": "bfloat16"` beside float32 weights.

    ## What to do
    Nothing, if it is meant to be so; else save again in the dtype you want, or let `ckpt-doctor fix` cast: an adapter
    to the dtype of most of its bytes, a model to the one in its configuration.

    ## Fix safety
    Unsafe: a narrower dtype rounds the values, and what is too small for it becomes zero; values that are too large are
    refused. Some models keep a few modules in float32 on purpose, and these are cast, too.

    ## References
    huggingface/transformers#33780
    """

    code = "CKD509"
    name = "dtype-surprise"
    severity = Severity.NOTE
    needs = "headers and configs"
    fix = "unsafe"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for part in checkpoint.parts_with("adapter", "model"):
            sizes = _bytes_by_dtype(part)
            if not sizes:
                continue
            if part.role == "adapter" and len(sizes) > 1:
                yield self._mixed(checkpoint, part, sizes)
            elif part.role == "model":
                yield from self._unlike_config(checkpoint, part, sizes)

    def _mixed(self, checkpoint: Checkpoint, part: Part, sizes: Counter[str]) -> Finding:
        (usual, most), (_, second), *_ = sizes.most_common()
        rare = sizes.most_common()[-1][0]
        names = [tensor.name for tensor in part.loaded_tensors if tensor.dtype.name == rare]
        amounts = ", ".join(f"{byte_size(size)} of {dtype}" for dtype, size in sizes.most_common())
        return self.finding(
            f"The adapter mixes dtypes: {amounts}; {rare} in {listed(names)}. Nothing to do if this is intended.",
            path=part.preferred[0].path,
            tensors=names,
            evidence={"bytes": dict(sizes)},
            fix=self._cast(checkpoint, part, usual) if most > second else None,
        )

    def _unlike_config(self, checkpoint: Checkpoint, part: Part, sizes: Counter[str]) -> Iterator[Finding]:
        config = (part.config.data if part.config else None) or {}
        promised = config.get("dtype") or config.get("torch_dtype")
        if not isinstance(promised, str) or config.get("quantization_config"):
            return
        promised = promised.removeprefix("torch.")
        usual, size = sizes.most_common(1)[0]
        if any(_usual(variant) == promised for variant in _variants(checkpoint, part)):
            return
        if promised in _WIDE and usual != promised and size > 0.5 * sum(sizes.values()):
            yield self.finding(
                f"config.json says {promised}, but {byte_size(size)} of {byte_size(sum(sizes.values()))} are {usual}. "
                f"Loaders that follow the configuration cast the weights. Save again in {promised}, or correct the "
                "configuration.",
                path=part.preferred[0].path,
                evidence={"configured": promised, "bytes": dict(sizes)},
                fix=self._cast(checkpoint, part, promised),
            )

    def _cast(self, checkpoint: Checkpoint, part: Part, dtype: str) -> Fix | None:
        actions = casting(part, dtype, _WIDE)
        count = sum(len(action.dtypes) for action in actions if isinstance(action, Rewrite))
        return self.repair(checkpoint, f"cast {counted(count, 'tensor')} to {dtype}", actions, unsafe=True)


def _bytes_by_dtype(part: Part) -> Counter[str]:
    sizes: Counter[str] = Counter()
    for tensor in part.loaded_tensors:
        if tensor.dtype.name in _WIDE:
            sizes[tensor.dtype.name] += tensor.nbytes
    return sizes


def _usual(part: Part) -> str | None:
    """The dtype of most of the bytes."""
    return next((dtype for dtype, _ in _bytes_by_dtype(part).most_common(1)), None)


def _variants(checkpoint: Checkpoint, part: Part) -> Iterator[Part]:
    """The other models in the same folder, which share one ``config.json``."""
    for other in checkpoint.parts_with("model"):
        if other is not part and other.directory == part.directory:
            yield other
