"""CKD204."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from ckpt_doctor.actions import SetAside
from ckpt_doctor.checkpoint import Checkpoint, Part, TensorInfo, WeightFile
from ckpt_doctor.findings import Finding, Severity
from ckpt_doctor.policy import Policy
from ckpt_doctor.sharding import indexed_shards
from ckpt_doctor.wording import counted, listed

from .rule import Rule

_NAME = r"(?P<folder>.*/)?(?P<stem>[^/]+?)(?:-\d+-of-\d+)?(?P<variant>\.[\w-]+)?\.(?P<ending>safetensors|bin|pt|pth)"


class _Comparison(NamedTuple):
    """Names that only one side has, that differ in shape or dtype, and in value; ``compared`` counts the values."""

    only_torch: tuple[str, ...]
    only_safetensors: tuple[str, ...]
    headers_differ: tuple[str, ...]
    values_differ: tuple[str, ...]
    compared: int
    common: int

    @property
    def agree(self) -> bool:
        return not (self.only_torch or self.only_safetensors or self.headers_differ or self.values_differ)


class BinAndSafetensors(Rule):
    """The same weights lie there twice, as a torch file and as safetensors.

    ## What it does
    Pairs `adapter_model.bin` with `adapter_model.safetensors`, `pytorch_model.bin` with `model.safetensors`, and
    shards likewise. It compares names, shapes and dtypes, and with `--deep` the values. Tied tensors that only the
    torch file spells out are no difference.

    ## Why is this bad?
    PEFT and transformers read the safetensors file and ignore the other without a word. Saving one format does not
    delete the other's file: after a second save with `safe_serialization=False` the *older* weights are loaded.

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
        kept, other = (torch, safe) if policy.expected_format(checkpoint.layout) == "bin" else (safe, torch)
        message = (
            f"{listed((file.path for file in safe), 1)} and {listed((file.path for file in torch), 1)} are both there. "
            "PEFT and transformers read safetensors and ignore the other. "
        )
        unknown = [file.path for file in (*safe, *torch) if not file.readable]
        result = None if unknown else _compare(safe, torch)
        fix, known = None, False
        if result is None:
            message += f"They cannot be compared: {listed(unknown, 1)} is damaged."
        elif result.agree:
            values = "" if result.compared == result.common else "; use --deep to compare the values"
            equal = "values, " if not values else ""
            message += f"They agree in {equal}names, shapes and dtypes of {counted(result.common, 'tensor')}{values}."
            known = not values
        else:
            known = True
            message += f"They differ: {_differences(result)}. Find out which is of the run that you mean."
        if known:
            keep, away = (listed((file.path for file in side), 1) for side in (kept, other))
            fix = self.repair(
                checkpoint,
                f"keep {keep} and set {away} aside",
                [SetAside(path) for path in (*(file.path for file in other), *_indexes_of(part, other))],
                unsafe=True,
                deep=policy.deep,
            )
        return self.finding(
            message,
            path=other[0].path,
            tensors=() if result is None else (*result.values_differ, *result.headers_differ, *_one_sided(result)),
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


def _indexes_of(part: Part, files: list[WeightFile]) -> list[str]:
    """The indexes that list nothing but these files, and so go with them."""
    paths = {file.path for file in files}
    return [shards.index.path for shards in indexed_shards(part) if shards.listed and paths.issuperset(shards.listed)]


def _compare(safe: list[WeightFile], torch: list[WeightFile]) -> _Comparison:
    left = {tensor.name: (file, tensor) for file in safe for tensor in file.tensors}
    right = {tensor.name: (file, tensor) for file in torch for tensor in file.tensors}
    common = left.keys() & right.keys()
    stored = {_place(*right[name]) for name in common}
    headers, values, compared = [], [], 0
    for name in sorted(common):
        (left_file, a), (right_file, b) = left[name], right[name]
        if (a.dtype, a.shape) != (b.dtype, b.shape):
            headers.append(name)
            continue
        first, second = (file.scans.get(name) if file.scans else None for file in (left_file, right_file))
        if first and second and first.digest and second.digest:
            compared += 1
            if first.digest != second.digest:
                values.append(name)
    return _Comparison(
        # The safetensors writers drop all but one name of tied tensors.
        only_torch=tuple(sorted(name for name in right.keys() - common if _place(*right[name]) not in stored)),
        only_safetensors=tuple(sorted(left.keys() - common)),
        headers_differ=tuple(headers),
        values_differ=tuple(values),
        compared=compared,
        common=len(common),
    )


def _place(file: WeightFile, tensor: TensorInfo) -> tuple[object, ...]:
    return file.path, tensor.storage.key, tensor.extent, tensor.shape


def _one_sided(result: _Comparison) -> tuple[str, ...]:
    return (*result.only_safetensors, *result.only_torch)


def _differences(result: _Comparison) -> str:
    found = []
    if result.only_safetensors:
        found.append(f"{counted(len(result.only_safetensors), 'tensor')} only in safetensors")
    if result.only_torch:
        found.append(f"{counted(len(result.only_torch), 'tensor')} only in the torch file")
    if result.headers_differ:
        found.append(f"{len(result.headers_differ):,} in shape or dtype ({listed(result.headers_differ, 1)})")
    if result.values_differ:
        found.append(
            f"{len(result.values_differ):,} of {result.compared:,} in value ({listed(result.values_differ, 1)})"
        )
    return ", ".join(found)
