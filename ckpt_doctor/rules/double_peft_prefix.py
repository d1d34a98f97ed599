"""CKD305."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.weight_file import WeightFile
from ckpt_doctor.core.wording import counted, shell

from ._kit.repairs import renaming
from ._kit.rule import Rule

PREFIX = "base_model.model."
_MEMGENS = "base_model.model.model.model."
_TRAINER = "MemGen"


class DoublePeftPrefix(Rule):
    """The names begin with PEFT's prefix twice.

    ## What it does
    Looks for adapter tensors whose names begin with `base_model.model.base_model.model.`, and in MemGen's folders for
    such as begin with `base_model.model.model.model.`.

    ## Why is this bad?
    The adapter was saved from a `PeftModel` inside a `PeftModel`. On the base model, none of the tensors finds its
    parameter: PEFT discards them as unexpected keys, and the evaluation runs on the base model.

    MemGen's own `from_pretrained` (KANABOON1/MemGen, a1b7397) wraps a model that is adapted already, and so does every
    save after such a load, as that of a second stage. Only the same `from_pretrained` restores these names: it asks for
    the additional `model.` too. It restores no other names: the finding is a warning there, without a fix.

    ## Example
    `get_peft_model` was called on a model that had been wrapped already.

    ## What to do
    Remove one of the two prefixes. For a MemGen folder, prove what your evaluation's loader restores:
    `ckpt-doctor verify PATH --model CONFIG.yaml --loader memgen-upstream`, or your own loader in its place.

    ## Fix safety
    Safe: names are changed only where nothing collides; no value is touched.

    ## References
    huggingface/peft#1337
    """

    code = "CKD305"
    name = "double-peft-prefix"
    severity = Severity.ERROR
    fix = "safe"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for part in checkpoint.parts_with("adapter"):
            for file in part.files:
                if checkpoint.kind.trainer == _TRAINER:
                    yield from self._adapted_once_more(checkpoint, file)
                names = [tensor.name for tensor in file.tensors if tensor.name.startswith(PREFIX * 2)]
                if names:
                    yield self.finding(
                        f"{counted(len(names), 'name')} of {len(file.tensors):,} "
                        f"{'begins' if len(names) == 1 else 'begin'} with {PREFIX} twice: the adapter was saved from a "
                        "PeftModel inside a PeftModel. On the base model they match no parameter. Remove one of the "
                        "two prefixes.",
                        path=file.path,
                        tensors=names,
                        evidence={"names": len(names), "tensors_in_file": len(file.tensors)},
                        fix=self.repair(
                            checkpoint,
                            f"remove one {PREFIX}",
                            renaming(part, file, names, lambda key: key.removeprefix(PREFIX)),
                        ),
                    )

    def _adapted_once_more(self, checkpoint: Checkpoint, file: WeightFile) -> Iterator[Finding]:
        names = [tensor.name for tensor in file.tensors]
        if not names or not all(name.startswith(_MEMGENS) for name in names):
            return
        # Only in its own layout can that from_pretrained open the files.
        theirs = checkpoint.kind.loader
        who = "Only that from_pretrained restores them" if theirs else "It cannot read this layout"
        yield self.finding(
            f"All {counted(len(names), 'name')} begin with {_MEMGENS}, one model. more than PEFT asks for on the base: "
            f"saved after MemGen's own from_pretrained, which adapts a model that is adapted already. {who}; "
            "PeftModel.from_pretrained on the base restores none. See what your evaluation restores: "
            f"{shell('verify', checkpoint.path)} --model CONFIG.yaml --loader {theirs or 'FILE.py:FUNCTION'}",
            path=file.path,
            tensors=names,
            evidence={"names": len(names), "prefix": _MEMGENS},
            severity=Severity.WARNING,
        )
