"""CKD203."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from ckpt_doctor.core.actions import Copy
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.policy import Policy

from ._kit.rule import Rule


class NestedAdapterDir(Rule):
    """The adapter lies one folder lower than a loader looks for it.

    ## What it does
    Finds adapters that PEFT wrote into a folder with the adapter's name. `save_pretrained` does so for every adapter
    that is not called `default`.

    ## Why is this bad?
    `PeftModel.from_pretrained` on the outer folder raises `Can't find 'adapter_config.json'`, and a loader that opens
    `weaver_lora/adapter_model.bin` raises `FileNotFoundError`, although all the weights are there.

    ## Example
    `weaver/weaver_lora/weaver/adapter_model.safetensors` instead of `weaver/weaver_lora/adapter_model.safetensors`.

    ## What to do
    Give the loader the inner folder (`PeftModel.from_pretrained(model, path, subfolder="weaver")`), or copy the files
    one folder up.

    ## Fix safety
    Unsafe, because two copies of one adapter can grow apart: the fix copies, and both stay.

    ## References
    eosphoros-ai/DB-GPT-Hub#71
    """

    code = "CKD203"
    name = "nested-adapter-dir"
    severity = Severity.WARNING
    needs = "headers and configs"
    fix = "unsafe"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for part in checkpoint.parts_with("adapter"):
            looked_in = None if part.adapter is None else part.adapter.nested_from
            if looked_in is None or part.secondary or not part.files:
                continue
            outer = {"": "this folder", "..": "the folder above"}.get(looked_in, looked_in)
            stem = part.expected_files[0].rpartition("/")[2].partition(".")[0]
            yield self.finding(
                f"The adapter is in {part.directory or 'this folder'}: a loader given {outer} does not find it, "
                f"because {outer} has no {stem}.*. Give the loader the inner folder, or copy its files one folder up.",
                path=part.files[0].path,
                evidence={"directory": part.directory, "looked_in": looked_in},
                fix=self.repair(checkpoint, "copy the adapter one folder up", _hoisting(part, looked_in), unsafe=True),
            )


def _hoisting(part: Part, outer: str) -> list[Copy]:
    paths = [file.path for file in part.files]
    if part.config is not None:
        paths.append(part.config.path)
    return [Copy(path, posixpath.join(outer, posixpath.basename(path))) for path in paths]
