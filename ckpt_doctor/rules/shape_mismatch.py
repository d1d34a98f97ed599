"""CKD004."""

from __future__ import annotations

from ckpt_doctor.core.findings import Severity

from ._kit.rule import LoadRule


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
