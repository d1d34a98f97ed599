"""CKD004."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ckpt_doctor.core.findings import MAX_TENSORS, Finding, Severity
from ckpt_doctor.core.wording import counted, shape

from ._kit.load_rule import LoadRule


class OtherShape(NamedTuple):
    """A tensor of the checkpoint, the parameter of its name, and the shape of each, in elements."""

    tensor: str
    saved: tuple[int, ...]
    parameter: str
    live: tuple[int, ...]


class ShapeMismatch(LoadRule):
    """A tensor of the checkpoint and the parameter of its name have different shapes.

    ## What it does
    Compares the shapes of every tensor and of the parameter that it is for.

    ## Why is this bad?
    Most loaders raise. One that assigns through `.data` accepts the tensor, and the model fails later, or computes
    something else. One that ignores mismatched sizes leaves the parameter at its initial value.

    ## Example
    The adapter was trained with `r=16` and the evaluation's config says `r=8`; the latents have another length; the
    base model has another hidden size or vocabulary.

    ## What to do
    Configure the evaluation with the numbers of the training: rank, latent lengths, base model.
    """

    code = "CKD004"
    name = "shape-mismatch"
    severity = Severity.ERROR

    def report(self, path: str, pairs: Sequence[OtherShape]) -> Finding:
        """The finding about one part of the checkpoint; ``path`` is the file of the first tensor."""
        first = pairs[0]
        message = f"{first.tensor} is {shape(first.saved)}, but {first.parameter} in the model is {shape(first.live)}"
        message += (
            f"; {counted(len(pairs) - 1, 'more tensor differs', 'more tensors differ')}." if len(pairs) > 1 else "."
        )
        message += " Build the model with the rank, latent lengths, vocabulary and hidden sizes of the training."
        evidence = {
            pair.tensor: {"checkpoint": list(pair.saved), "model": list(pair.live)} for pair in pairs[:MAX_TENSORS]
        }
        return self.finding(message, path=path, tensors=[pair.tensor for pair in pairs], evidence=evidence)
