"""CKD006."""

from __future__ import annotations

from collections.abc import Sequence

from ckpt_doctor.core.findings import MAX_TENSORS, Finding, Severity
from ckpt_doctor.core.wording import capital, counted, listed

from ._kit.load_rule import LoadRule


class AdapterWithoutEffect(LoadRule):
    """With and without the adapter the model computes the same.

    ## What it does
    Looks whether the layers apply the adapter that was loaded: it may be switched off, not the active one, or scaled
    by 0, in all of them or in some. With `--mode forward`, runs one pass of random tokens with the adapter and one with
    the adapter disabled, and compares the logits. In `verify`, an adapter that no layer applies is an error.

    ## Why is this bad?
    Whatever was trained changes nothing: the evaluation measures the base model.

    ## Example
    `lora_B` is still zero, the adapter is not the active one, or its scaling is 0.

    ## What to do
    Activate the adapter (`model.set_adapter`), and look at the training: `ckpt-doctor inspect --deep` finds adapters
    that were never trained (CKD602).
    """

    code = "CKD006"
    name = "adapter-without-effect"
    severity = Severity.WARNING

    def report_idle(self, adapter: str, why: str, remedy: str, *, severe: bool) -> Finding:
        """No layer applies the adapter; ``severe`` where the load that is judged is the last step."""
        message = f"The adapter {adapter!r} is in the model but {why}: the model computes as if it were not there. "
        message += f"Call {remedy} in the loader."
        severity = Severity.ERROR if severe else None
        return self.finding(message, severity=severity, evidence={"adapter": adapter, "remedy": remedy})

    def report_partly_idle(self, adapter: str, modules: Sequence[str], of: int, why: str) -> Finding:
        """These ``modules``, out of the number that the adapter has, do not apply it."""
        message = f"The adapter {adapter!r} is {why} in {len(modules)} of the {counted(of, 'module')} that it adapts "
        message += f"({listed(modules)}): the model computes as if these modules were not adapted."
        return self.finding(message, evidence={"adapter": adapter, "modules": list(modules[:MAX_TENSORS])})

    def report_combined(self, adapter: str, active: str, remedy: str) -> Finding:
        """Another adapter is ``active``, which may have been made out of this one."""
        message = f"The adapter {adapter!r} is in the model, but {active!r} is active. If add_weighted_adapter made "
        message += f"{active!r} from it, nothing is wrong. Otherwise call {remedy} in the loader."
        return self.finding(message, evidence={"adapter": adapter, "active": active, "remedy": remedy})

    def report_same_logits(self, model: str) -> Finding:
        """A forward pass with the adapter and one without it gave the same."""
        return self.finding(
            f"{capital(model)} computes the same logits with and without the adapter: the adapter changes nothing."
        )
