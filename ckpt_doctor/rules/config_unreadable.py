"""CKD506."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.parts import ConfigFile
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import listed
from ckpt_doctor.knowledge.peft_types import PEFT_TYPES, PEFT_VERSION, REMOVED_TYPES

from ._kit.rule import Rule
from .peft_version import is_newer


class ConfigUnreadable(Rule):
    """A configuration is not JSON, or not what its name says.

    ## What it does
    Reads `adapter_config.json` and `config.json`. An adapter's must be a JSON object with a `peft_type` that exists.
    A type that is unknown here is only a note where `peft_version` is newer than the version this tool knows.

    ## Why is this bad?
    `PeftConfig.from_pretrained` raises `KeyError: 'peft_type'` or `JSONDecodeError`. And nothing that depends on the
    configuration could be checked.

    ## Example
    An `adapter_config.json` cut off in the middle by a full disk.

    ## What to do
    Copy the file from the training run.

    ## References
    huggingface/peft#1661
    """

    code = "CKD506"
    name = "config-unreadable"
    severity = Severity.ERROR
    needs = "headers and configs"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        seen: dict[str, tuple[ConfigFile, bool]] = {}
        for part in checkpoint.parts:
            # A part may want more of a file than others do, and then that is what is wrong with it.
            if part.config is not None and (part.config.path not in seen or part.config.data is None):
                seen[part.config.path] = (part.config, part.role == "adapter")
        if checkpoint.config is not None:
            seen.setdefault(checkpoint.config.path, (checkpoint.config, False))
        for path, (config, is_adapter) in seen.items():
            if config.unreadable:
                continue
            if config.data is None:
                yield self.finding(
                    f"The file cannot be read: {config.error}. Copy it from the training run.",
                    path=path,
                    evidence={"error": config.error},
                )
            elif is_adapter:
                yield from self._adapter_config(path, config)

    def _adapter_config(self, path: str, config: ConfigFile) -> Iterator[Finding]:
        assert config.data is not None
        kind = config.data.get("peft_type")
        if kind is None:
            keys = listed(map(str, config.data), 5) or "nothing"
            yield self.finding(
                f"The file is JSON but not an adapter's configuration: it has no peft_type (its keys: {keys}). Copy "
                "the file from the training run.",
                path=path,
                evidence={"keys": list(map(str, config.data))[:20]},
            )
        elif not isinstance(kind, str) or kind not in PEFT_TYPES:
            newer = is_newer(config.data)
            removed = REMOVED_TYPES.get(str(kind))
            yield self.finding(
                f"PEFT {PEFT_VERSION} has no peft_type {kind!r}. "
                + (
                    f"PEFT {config.data['peft_version']} wrote the file: this tool cannot check its keys."
                    if newer
                    else f"The last version that reads it is {removed}: load it with that version."
                    if removed
                    else "PEFT refuses the file. Correct it, or copy the file from the training run."
                ),
                path=path,
                evidence={"peft_type": str(kind), "known_version": PEFT_VERSION},
                severity=Severity.NOTE if newer else None,
            )
