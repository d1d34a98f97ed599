"""CKD853."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.comparison import PartComparison
from ckpt_doctor.core.findings import MAX_TENSORS, Finding, Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import counted, listed, shape

from ._kit.contract_rule import ContractRule, by_file


class ContractShapeDiffers(ContractRule):
    """A tensor has another shape than the contract pins.

    ## What it does
    With `--against`, compares the shapes of the tensors that both have. 4-bit floats are counted one by one, as
    safetensors does, whichever way a file packs them.

    ## Why is this bad?
    `load_state_dict` raises `size mismatch`; code that assigns to `.data` takes any shape, and fails much later or not
    at all.

    ## Example
    `prompt_query_latents` of 16 rows where the evaluation is configured for 8, or a LoRA of rank 8 instead of 16.

    ## What to do
    Load it with the settings that it was trained with. If these are meant to have changed, lock a new contract.
    """

    code = "CKD853"
    name = "contract-shape-differs"
    severity = Severity.ERROR

    def judge(self, part: PartComparison, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`ContractRule.judge`."""
        for path, changes in by_file(part.shapes).items():
            shown = listed(f"{item.name} is {shape(item.found)} instead of {shape(item.pinned)}" for item in changes)
            yield self.finding(
                f"{counted(len(changes), 'tensor differs', 'tensors differ')} in shape from {part.contract}: {shown}. "
                f"Load it with the settings of its training; {self.renewing(part, checkpoint)}",
                path=path,
                tensors=[item.name for item in changes],
                evidence={
                    "part": part.name,
                    "shapes": [
                        {"name": item.name, "pinned": list(item.pinned), "found": list(item.found)}
                        for item in changes[:MAX_TENSORS]
                    ],
                },
            )
