"""CKD204."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ckpt_doctor.core.actions import SetAside
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.weight_file import WeightFile
from ckpt_doctor.core.wording import counted, listed

from ._kit.copies import compare, indexes_of
from ._kit.rule import Rule

_NUMBER = r"-\d+-of-\d+"
_NAME = r"(?P<folder>.*/)?(?P<stem>[^/]+?)(?:-\d+-of-\d+)?(?P<variant>\.[\w-]+)?\.(?P<ending>safetensors|bin|pt|pth)"


class BinAndSafetensors(Rule):
    """The same weights lie there twice, as a torch file and as safetensors.

    ## What it does
    Pairs `adapter_model.bin` with `adapter_model.safetensors`, `pytorch_model.bin` with `model.safetensors`, and
    shards likewise. It compares names, shapes and dtypes, and with `--deep` the values. Tied tensors that only the
    torch file spells out are no difference.

    ## Why is this bad?
    PEFT and transformers read the safetensors file and silently ignore the other. Saving one format does not delete the
    other's file: after a second save with `safe_serialization=False` the *older* weights are loaded.

    ## Example
    A run saved safetensors first and `.bin` later into the same folder.

    ## What to do
    If they agree, keep one. If they differ, find out which is of the run that you mean, and remove the other.

    ## Fix safety
    Unsafe: what loaders read is kept (with `--expect bin` the torch file), and the other is set aside, though it may be
    the one that you mean. There is no fix where only the values can tell and were not compared (`--deep`).

    ## References
    OpenRLHF/OpenRLHF#209
    """

    code = "CKD204"
    name = "bin-and-safetensors"
    severity = Severity.WARNING
    needs = "headers, and tensor bytes to compare"
    fix = "unsafe"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for part in checkpoint.parts:
            if not part.auxiliary:
                for safe, torch in _pairs(part):
                    yield self._report(checkpoint, policy, part, safe, torch)

    def _report(
        self,
        checkpoint: Checkpoint,
        policy: Policy,
        part: Part,
        safe: list[WeightFile],
        torch: list[WeightFile],
    ) -> Finding:
        kept, other = (torch, safe) if policy.expected_format(checkpoint.kind) == "bin" else (safe, torch)
        message = (
            f"{listed((file.path for file in safe), 1)} and {listed((file.path for file in torch), 1)} both exist. "
            "PEFT and transformers read safetensors and ignore the other. "
        )
        unknown = [file.path for file in (*safe, *torch) if not file.readable]
        result = None if unknown else compare(_read(safe), _read(torch))
        fix, known = None, False
        if result is None:
            message += f"They cannot be compared: {listed(unknown, 1)} is damaged."
        elif result.agree:
            values = "" if result.all_compared else ". Use --deep to compare the values"
            equal = "values, " if not values else ""
            message += f"They agree in {equal}names, shapes and dtypes of {counted(result.common, 'tensor')}{values}."
            known = not values
        else:
            known = True
            differences = result.differences("safetensors", "the torch file")
            message += f"They differ: {differences}. Find out which one comes from the run you want."
        if known:
            keep, away = (listed((file.path for file in side), 1) for side in (kept, other))
            fix = self.repair(
                checkpoint,
                f"keep {keep} and set {away} aside",
                [SetAside(path) for path in (*(file.path for file in other), *indexes_of(part, other))],
                unsafe=True,
                deep=policy.deep,
            )
        return self.finding(
            message,
            path=other[0].path,
            tensors=() if result is None else result.names,
            evidence={
                "safetensors": [file.path for file in safe],
                "torch": [file.path for file in torch],
                "kept": kept[0].path,
                "agree": None if result is None else result.agree,
                "values_compared": 0 if result is None else result.compared,
            },
            fix=fix,
        )


def _pairs(part: Part) -> Iterator[tuple[list[WeightFile], list[WeightFile]]]:
    units: dict[tuple[str, str, str], tuple[list[WeightFile], list[WeightFile]]] = {}
    for file in part.files:
        found = re.fullmatch(_NAME, file.path)
        if found:
            stem = found["stem"].replace("pytorch_model", "model", 1)
            unit = units.setdefault((found["folder"] or "", stem, found["variant"] or ""), ([], []))
            unit[found["ending"] != "safetensors"].append(file)
    return ((safe, torch) for safe, torch in units.values() if safe and torch)


def _read(side: list[WeightFile]) -> list[WeightFile]:
    """What a loader takes of one side: the whole file where shards are there too (CKD209)."""
    return [file for file in side if not re.search(_NUMBER, file.path)] or side
