"""CKD301."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import counted, listed

from ._kit.rule import Rule


class KeyMissing(Rule):
    """A tensor that the layout requires is not in its file.

    ## What it does
    Compares the tensors of a side file, or of a whole MemGen model, with the entries that the loader reads from it, and
    those of a team's own layout with the keys in the settings.

    ## Why is this bad?
    `load_state_dict` raises `Missing key(s) in state_dict`, or a tolerant loader leaves the parameter at its random
    initialisation.

    ## Example
    `projections.pt` without `inference_query_latents`.

    ## What to do
    Save the file again from the training run with all entries.
    """

    code = "CKD301"
    name = "key-missing"
    severity = Severity.ERROR

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for part in checkpoint.parts:
            if not part.readable:
                continue
            present = {tensor.name for tensor in part.loaded_tensors}
            missing = [entry.name for entry in part.entries if entry.required and not entry.is_among(present)]
            if missing:
                file = part.preferred[0]
                not_tensors = [name for name in missing if name in file.values]
                hint = f" ({listed(not_tensors)} is there, but not as a tensor)" if not_tensors else ""
                required = sum(entry.required for entry in part.entries)
                yield self.finding(
                    f"{counted(len(missing), 'tensor')} of the {required} that a loader reads from this file "
                    f"{'is' if len(missing) == 1 else 'are'} missing: {listed(missing, 6)}{hint}. Their modules stay "
                    "at random initialisation. Save the file again from the training run.",
                    path=file.path,
                    tensors=missing,
                    evidence={"missing": len(missing), "required": required, "present": len(present)},
                )
