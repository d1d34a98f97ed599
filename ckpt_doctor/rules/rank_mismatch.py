"""CKD501."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import counted, listed
from ckpt_doctor.knowledge.adapter_keys import base_module

from ._kit.adapter_view import AdapterView, adapters, names_in, names_module, wraps_parameters
from ._kit.repairs import setting
from ._kit.rule import Rule

# Parameter, dimension that is the rank: in lora_A and lora_embedding_A the first, in their counterparts the second.
_RANK_DIMENSION = {"lora_A.weight": 0, "lora_B.weight": 1, "lora_embedding_A": 0, "lora_embedding_B": 1}
# Settings under which the shapes follow other rules.
_OTHER_SHAPES = (
    "use_bdlora",
    "use_qalora",
    "megatron_config",
    "monteclora_config",
    "arrow_config",
)


class RankMismatch(Rule):
    """The rank in the configuration is not the rank of the tensors.

    ## What it does
    For plain LoRA, compares the first dimension of `lora_A` and the second of `lora_B` with each other and with `r` or
    `rank_pattern`. AdaLoRA, whose ranks are pruned, and the modules of `target_parameters` are not judged.

    ## Why is this bad?
    PEFT creates parameters of the configured rank and raises `size mismatch for …lora_A`; a tolerant loader leaves
    them at their initialisation.

    ## Example
    `"r": 8` beside `lora_A` of shape `[16, 2048]`.

    ## What to do
    If only the configuration is wrong, correct it, and mind that `lora_alpha / r` changes with it.

    ## Fix safety
    Unsafe: with another `r` the adapter is scaled differently.

    ## References
    HighCWu/control-lora-v3#12
    """

    code = "CKD501"
    name = "rank-mismatch"
    severity = Severity.ERROR
    needs = "headers and configs"
    fix = "unsafe"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for view in adapters(checkpoint):
            plain = view.kind is not None and view.kind.value == "LORA"
            if not plain or any(view.settings.get(key) for key in _OTHER_SHAPES):
                continue
            rank = view.settings.get("r")
            if rank is not None and (isinstance(rank, bool) or not isinstance(rank, int) or rank < 1):
                yield self.finding(
                    f"The configuration's r is {rank!r}: PEFT refuses it, a rank is a positive integer. Copy the file "
                    "from the training run.",
                    path=view.part.config.path if view.part.config else view.file.path,
                    evidence={"r": repr(rank)},
                )
                continue
            wrong: list[str] = []
            seen: set[int] = set()
            expected: set[int] = set()
            judged = 0
            exchanged = False
            modules, tensors = view.modules, view.file.by_name
            holders = [name.rpartition(".")[0] for name in names_in(view.settings.get("target_parameters"))]
            for module, parameters in modules.items():
                # Of fused experts, the rank is that of all of them together.
                if wraps_parameters(module, modules) or any(_is_or_lies_in(module, holder) for holder in holders):
                    continue
                ranks = {
                    name: tensors[name].shape[_RANK_DIMENSION[parameter]]
                    for parameter, name in parameters.items()
                    if parameter in _RANK_DIMENSION and len(tensors[name].shape) >= 2
                }
                wanted = _configured_rank(view, module)
                if wanted is None and len(set(ranks.values())) > 1:
                    wanted = -1
                judged += len(ranks)
                exchanged |= bool(ranks) and all(_exceeds(tensors[name].shape, rank) for name, rank in ranks.items())
                for name, rank in ranks.items():
                    if wanted is not None and rank != wanted:
                        wrong.append(name)
                        seen.add(rank)
                        expected |= {wanted} - {-1}
            if wrong:
                versus = f"the configuration says {listed(map(str, sorted(expected)))}" if expected else "pairs differ"
                yield self.finding(
                    f"{counted(len(wrong), 'tensor')} {'has' if len(wrong) == 1 else 'have'} rank "
                    f"{listed(map(str, sorted(seen)))}, but {versus}: {listed(sorted(wrong))}. Take both files from "
                    "one run. If only the configuration is wrong, correct r; this also changes lora_alpha / r.",
                    path=view.file.path,
                    tensors=wrong,
                    evidence={"ranks": sorted(seen), "configured": sorted(expected)},
                    fix=self.repair(
                        checkpoint,
                        "set r to the rank of the tensors",
                        setting(view.part, {"r": min(seen)}),
                        unsafe=True,
                    )
                    if expected
                    and len(seen) == 1
                    and len(wrong) == judged
                    and not exchanged
                    and not view.settings.get("rank_pattern")
                    else None,
                )


def _is_or_lies_in(module: str, holder: str) -> bool:
    """Whether this is a module whose parameters are targets; where these have no path, it may be any."""
    return not holder or f".{holder}." in f".{base_module(module)}."


def _exceeds(shape: tuple[int, ...], rank: int) -> bool:
    """Whether a rank is larger than what it goes from or to: in both halves, lora_A and lora_B were exchanged."""
    return any(size < rank for size in shape)


def _configured_rank(view: AdapterView, module: str) -> int | None:
    """The rank that the configuration gives a module; ``None`` where only running a regular expression could tell."""
    pattern: Any = view.settings.get("rank_pattern") or {}
    if not isinstance(pattern, dict):
        return None
    for key, rank in pattern.items():
        # A regular expression out of a file is not run: it could be made to take for ever.
        if not re.fullmatch(r"[\w.]+", key):
            return None
        if names_module(module, key.removeprefix(".")):
            return rank if isinstance(rank, int) else None
    rank = view.settings.get("r")
    return rank if isinstance(rank, int) else None
