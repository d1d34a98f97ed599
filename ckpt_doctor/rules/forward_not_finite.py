"""CKD007."""

from __future__ import annotations

from ckpt_doctor.core.findings import Finding, Severity

from ._kit.load_rule import LoadRule


class ForwardNotFinite(LoadRule):
    """The first forward pass gives NaN or Inf.

    ## What it does
    With `--mode forward`, runs one pass of random tokens and looks at the logits.

    ## Why is this bad?
    Nothing that the model generates means anything.

    ## Example
    Weights that were saved after the training diverged, or float32 values that overflow in float16.

    ## What to do
    `ckpt-doctor inspect --deep` names the tensors that are not finite (CKD601). Otherwise load in another dtype."""

    code = "CKD007"
    name = "forward-not-finite"
    severity = Severity.ERROR

    def report(self, model: str, nonfinite: int, logits: int) -> Finding:
        """``nonfinite`` of the ``logits`` of one pass are NaN or Inf, both counted."""
        message = f"{nonfinite:,} of the {logits:,} logits of {model} are NaN or Inf in the first pass."
        return self.finding(message, evidence={"nonfinite": nonfinite, "of": logits})
