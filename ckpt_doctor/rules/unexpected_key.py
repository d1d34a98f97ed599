"""CKD311."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.entries import meant
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import counted, listed

from ._kit.rule import Rule


class UnexpectedKey(Rule):
    """A side file holds an entry that its layout does not know.

    ## What it does
    Compares the entries of side files such as `projections.pt` with those that a loader reads from them.

    ## Why is this bad?
    Whatever the entry holds is not loaded. It may be a harmless addition, or the misspelt name of one that is missing.

    ## Example
    `projections.pt` with an entry `optimizer_step`.

    ## What to do
    Nothing, if the entry is meant to be there.
    """

    code = "CKD311"
    name = "unexpected-key"
    severity = Severity.NOTE

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for part in checkpoint.parts:
            if not part.complete_entries:
                continue
            for file in part.files:
                known = meant((*(tensor.name for tensor in file.tensors), *file.values), part.entries)
                names = [tensor.name for tensor in file.tensors if tensor.name not in known]
                values = [name for name in file.values if not any(entry.matches_start(name) for entry in part.entries)]
                unknown = [*names, *(name for name in values if name not in known)]
                if unknown:
                    yield self.finding(
                        f"No loader of this layout reads {counted(len(unknown), 'entry', 'entries')} of the file: "
                        f"{listed(unknown)}. Nothing to do if this is intended.",
                        path=file.path,
                        tensors=names,
                        evidence={"entries": unknown[:20]},
                    )
