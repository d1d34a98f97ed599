"""CKD213."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import listed

from ._kit.rule import Rule


class ModelConfigMissing(Rule):
    """A model that transformers saved has no `config.json`.

    ## What it does
    Looks for `config.json` beside the weights of a folder that holds a `generation_config.json`: transformers writes
    both in one save. Folders without that file are left alone, as accelerate and the hub's mixin save weights without
    any configuration.

    ## Why is this bad?
    `from_pretrained` raises `does not appear to have a file named config.json` or `Unrecognized model`, and what
    depends on the configuration could not be checked.

    ## Example
    Only the weights and the tokenizer were copied from the training machine.

    ## What to do
    Copy the file from the training run, or from the model that was trained if nothing of its architecture was changed.
    """

    code = "CKD213"
    name = "model-config-missing"
    severity = Severity.ERROR

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        told = set()
        for part in checkpoint.parts_with("model"):
            expected = part.config_expected
            if expected is None or expected in told or part.config is not None or not part.files:
                continue
            told.add(expected)
            yield self.finding(
                f"There are model weights ({listed(file.path for file in part.preferred)}) and a "
                f"generation_config.json, but no {expected}: transformers cannot load the model. Copy the file from "
                "the training run.",
                path=expected,
                evidence={"weights": [file.path for file in part.files]},
            )
