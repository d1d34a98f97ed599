"""CKD507."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.core.actions import EditJson
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import listed
from ckpt_doctor.knowledge.peft_types import PEFT_TYPES, PEFT_VERSION

from ._kit.rule import Rule
from .peft_version import is_newer


class ConfigUnknownKeys(Rule):
    """The adapter's configuration has keys that PEFT does not know.

    ## What it does
    Compares the keys of `adapter_config.json` with those of every PEFT version up to the one this tool knows. It is a
    note where `peft_version` says that a newer PEFT wrote the file.

    ## Why is this bad?
    An older PEFT raises `LoraConfig.__init__() got an unexpected keyword argument`; a recent one warns and ignores the
    key, and so does not compute what was trained.

    ## Example
    A configuration of a fork of PEFT with a key for its own variant of LoRA.

    ## What to do
    Evaluate with the PEFT that wrote the file. Removing the keys also removes what they say.

    ## Fix safety
    Unsafe: the adapter may need what the key asks for.

    ## References
    huggingface/peft#2275
    """

    code = "CKD507"
    name = "config-unknown-keys"
    severity = Severity.WARNING
    needs = "configs"
    fix = "unsafe"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for part in checkpoint.parts_with("adapter"):
            settings = part.config.data if part.config else None
            kind = PEFT_TYPES.get(str(settings.get("peft_type"))) if settings else None
            if part.config is None or settings is None or kind is None:
                continue
            unknown = sorted(key for key in settings if key not in kind.config_keys)
            if unknown:
                newer = is_newer(settings)
                writer = f" It was written by PEFT {settings['peft_version']}." if newer else ""
                yield self.finding(
                    f"No {kind.value} configuration up to PEFT {PEFT_VERSION} has "
                    f"{'this key' if len(unknown) == 1 else f'these {len(unknown):,} keys'}: "
                    f"{listed(unknown, 5)}.{writer} Some versions of PEFT refuse the file, others ignore the key. "
                    "Evaluate with the PEFT version that wrote it.",
                    path=part.config.path,
                    evidence={"keys": unknown[:20], "known_version": PEFT_VERSION},
                    severity=Severity.NOTE if newer else None,
                    fix=self.repair(
                        checkpoint,
                        f"remove {listed(unknown)}",
                        [EditJson(part.config.path, without=tuple(unknown))],
                        unsafe=True,
                    ),
                )
