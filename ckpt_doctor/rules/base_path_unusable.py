"""CKD508."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Fix, Severity
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.policy import Policy

from ._kit.repairs import setting
from ._kit.rule import Rule

# What cannot be a hub id: absolute paths of either system, the home directory, and paths that start with dots.
_LOCAL = re.compile(r"/|~|\.\.?(/|\\|$)|[A-Za-z]:[\\/]|\\\\")
# The hub's cache keeps a model in models--owner--name/snapshots/revision.
_HUB_CACHE = re.compile(r"[/\\]models--(?P<owner>[\w.-]+?)--(?P<name>[\w.-]+)[/\\]snapshots[/\\]")


class BasePathUnusable(Rule):
    """The configuration does not say where the base model is, or says a path that is not on this machine.

    ## What it does
    Looks at `base_model_name_or_path`: it should be a hub id or a folder that exists here.

    ## Why is this bad?
    `AutoPeftModel.from_pretrained` and most servers load the base model from there. A loader that gets the base model
    from elsewhere does not need it.

    ## Example
    `"base_model_name_or_path": "/home/trainer/models/qwen"`.

    ## What to do
    Write the hub id of the base model there, or give the loader the base model yourself.

    ## Fix safety
    Unsafe: offered where the path is one of the hub's cache, which has the model's id in it; the id names the newest
    revision, and the path named one.

    ## References
    fastino-ai/GLiNER2#108
    """

    code = "CKD508"
    name = "base-path-unusable"
    severity = Severity.NOTE
    needs = "configs"
    fix = "unsafe"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for part in checkpoint.parts_with("adapter"):
            settings = part.config.data if part.config else None
            found = part.adapter is not None and part.adapter.base_config is not None
            if part.config is None or settings is None or found:
                continue
            base = settings.get("base_model_name_or_path")
            if base is not None and (not isinstance(base, str) or (base and not _LOCAL.match(base))):
                continue
            state = f"is {base!r}, which has no config.json on this machine" if base else "is empty"
            yield self.finding(
                f"base_model_name_or_path {state}. Loaders that fetch the base model by this name fail. Write its hub "
                "id there, or give the loader the base model.",
                path=part.config.path,
                evidence={"base_model_name_or_path": base},
                fix=self._fix(checkpoint, part, base),
            )

    def _fix(self, checkpoint: Checkpoint, part: Part, base: str | None) -> Fix | None:
        found = _HUB_CACHE.search(base or "")
        if found is None:
            return None
        hub_id = f"{found['owner']}/{found['name']}"
        title = f"write the hub id {hub_id}"
        return self.repair(checkpoint, title, setting(part, {"base_model_name_or_path": hub_id}), unsafe=True)
