"""CKD011."""

from __future__ import annotations

from ckpt_doctor.core.findings import Finding, Severity

from ._kit.load_rule import LoadRule


class NotJudged(LoadRule):
    """The gate stays shut though no rule found an error: what it should judge could not be judged.

    ## What it does
    `ckpt-doctor gate` reports this where the model could not be built or the load not be compared, and where the files
    changed while they were judged. The exit code is 2 then.

    ## Why is this bad?
    A file that was not read may be anything. Without this finding the report would look like that of one that passed.

    ## Example
    The function that builds the model raises, because a package is not installed on this machine.

    ## What to do
    The message says what stood in the way. Remove that, and run the gate again.
    """

    code = "CKD011"
    name = "not-judged"
    severity = Severity.ERROR

    def report(self, reason: str) -> Finding:
        """The checkpoint could not be judged for this ``reason``; no setting turns that green."""
        return self.finding(f"{reason}.", always_fails=True)
