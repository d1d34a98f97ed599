"""CKD856."""

from __future__ import annotations

import json
from collections.abc import Iterator

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.comparison import PartComparison
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import counted, listed
from ckpt_doctor.knowledge.adapter_settings import BASE_MODEL

from ._kit.contract_rule import ContractRule

_LONGEST = 60  # characters of a value that are shown


class ContractConfigDiffers(ContractRule):
    """A setting of an adapter is not the one that the contract pins.

    ## What it does
    With `--against`, compares those settings of `adapter_config.json` that change what the tensors mean: among them
    `peft_type`, `r`, `lora_alpha`, `target_modules`, `use_dora`, `use_rslora`, `fan_in_fan_out`, `bias`,
    `modules_to_save`, `layers_to_transform`, `rank_pattern` and `alpha_pattern`. The order of lists that PEFT keeps as
    sets does not count, nor whether an empty setting is written out. Another `base_model_name_or_path` alone is only a
    note: two names may mean one model.

    ## Why is this bad?
    Every tensor fits, and the adapter does something else: with half the `lora_alpha` it has half the effect.

    ## Example
    `"lora_alpha": 16` where the good checkpoint has 32.

    ## What to do
    Take the configuration and the weights from one run. If the change is meant, lock a new contract.
    """

    code = "CKD856"
    name = "contract-config-differs"
    severity = Severity.ERROR
    needs = "a contract, and configs"

    def judge(self, part: PartComparison, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`ContractRule.judge`."""
        if not part.config:
            return
        count = counted(len(part.config), "setting")
        shown = listed(f"{item.name} is {_shown(item.found)} instead of {_shown(item.pinned)}" for item in part.config)
        only_base = all(item.name == BASE_MODEL for item in part.config)
        advice = f"Take configuration and weights from one run; {self.renewing(part, checkpoint)}"
        yield self.finding(
            f"{count} {'differs' if len(part.config) == 1 else 'differ'} from {part.contract}: {shown}. "
            f"{'Nothing to do if both mean the same model.' if only_base else advice}",
            path=part.config_path,
            evidence={"settings": {item.name: {"pinned": item.pinned, "found": item.found} for item in part.config}},
            severity=Severity.NOTE if only_base else None,
        )


def _shown(value: object) -> str:
    text = "not set" if value is None else json.dumps(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
