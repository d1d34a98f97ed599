"""CKD202."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import counted, listed

from ._kit.rule import Rule


class SideFileMissing(Rule):
    """A side file of the adapter is missing.

    ## What it does
    Compares the side files that the layout requires with those that are there: `projections.pt` for a MemGen weaver,
    `projs.bin`, `weaver.bin` and `trigger.bin` for upstream MemGen, and those that the settings name for a team's own
    layout.

    ## Why is this bad?
    The modules that the file holds stay at their random initialisation. A loader that does not insist on the file says
    nothing: the evaluation runs, and its numbers are wrong.

    ## Example
    `weaver/weaver_lora/adapter_model.safetensors` without `weaver/projections.pt`: both projections and both query
    latents are untrained.

    ## What to do
    Save it again from the training run; nothing else can restore the values. If it lies elsewhere, move it to the place
    that the message names.

    ## References
    hiyouga/LLaMA-Factory#1411
    """

    code = "CKD202"
    name = "side-file-missing"
    severity = Severity.ERROR

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for part in checkpoint.parts:
            if not part.beside or part.files or not part.required:
                continue
            path = part.expected_files[0]
            name = path.rpartition("/")[2]
            present = [*(other.path for other in checkpoint.others), *(file.path for file in checkpoint.files)]
            elsewhere = [other for other in present if other.rpartition("/")[2] == name and other != path]
            entries = [entry.name for entry in part.entries if entry.required]
            advice = (
                f"There is a file of that name at {listed(elsewhere)}: move it to {path} if it comes from this save."
                if elsewhere
                else "This tool cannot rebuild it: save it again from the training run."
            )
            loss = (
                f"Without it {counted(len(entries), 'tensor')} ({listed(entries, 4)}) "
                f"{'stays' if len(entries) == 1 else 'stay'} at random initialisation."
                if entries
                else f"A checkpoint of the layout {checkpoint.layout} must have it."
            )
            yield self.finding(
                f"{' or '.join(part.expected_files)} is missing. {loss} {advice}",
                path=path,
                tensors=entries,
                evidence={"missing": path, "elsewhere": elsewhere},
            )
