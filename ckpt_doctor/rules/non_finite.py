"""CKD601."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.analysis.tensor_names import may_be_infinite
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import MAX_TENSORS, Finding, Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.weight_file import TensorInfo, TensorScan, WeightFile
from ckpt_doctor.core.wording import counted, listed

from ._kit.rule import Rule


class NonFinite(Rule):
    """Some weights are NaN or infinite.

    ## What it does
    With `--deep`, and in `verify`, looks at every element of every floating-point tensor. Attention masks, observers of
    quantisation and training state may hold infinities by design, so there it is a note.

    ## Why is this bad?
    One NaN in a weight makes every output NaN. Generation then stops with `RuntimeError: probability tensor contains
    either inf, nan or element < 0`, or a loss is `nan` from the first step; often it is taken for a bug in the
    evaluation.

    ## Example
    A training run in float16 overflowed and went on saving; a bfloat16 checkpoint was cast to float16.

    ## What to do
    Use the last checkpoint that is finite, and train on from there with a lower learning rate, gradient clipping or
    bfloat16.
    """

    code = "CKD601"
    name = "non-finite"
    severity = Severity.ERROR
    needs = "tensor bytes"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for part in checkpoint.parts:
            if part.auxiliary:
                continue
            for file in part.files:
                hit = _hit(file)
                weights = [(tensor, scan) for tensor, scan in hit if not may_be_infinite(tensor.name)]
                others = [(tensor, scan) for tensor, scan in hit if may_be_infinite(tensor.name)]
                if weights:
                    advice = "Use an earlier checkpoint: these values cannot be repaired."
                    yield self._report(file, weights, advice, self.severity)
                if others:
                    advice = "Masks, observers and training state may hold infinities by design."
                    yield self._report(file, others, advice, Severity.NOTE)

    def _report(
        self, file: WeightFile, hit: list[tuple[TensorInfo, TensorScan]], advice: str, severity: Severity
    ) -> Finding:
        count = sum(scan.nonfinite for _, scan in hit)
        total = sum(tensor.numel for tensor, _ in hit)
        names = [tensor.name for tensor, _ in hit]
        position = _position(*hit[0], of_several=len(names) > 1)
        return self.finding(
            f"{count:,} of {total:,} values in {counted(len(names), 'tensor')} "
            f"{'is' if count == 1 else 'are'} NaN or Inf: {listed(names)}{position}. {advice}",
            path=file.path,
            tensors=names,
            evidence={
                "nonfinite": count,
                "tensors": [
                    {"name": tensor.name, "nonfinite": scan.nonfinite, "first": scan.first_nonfinite}
                    for tensor, scan in hit[:MAX_TENSORS]
                ],
            },
            severity=severity,
        )


def _hit(file: WeightFile) -> list[tuple[TensorInfo, TensorScan]]:
    scans = file.scans or {}
    return [
        (tensor, scans[tensor.name]) for tensor in file.tensors if tensor.name in scans and scans[tensor.name].nonfinite
    ]


def _position(tensor: TensorInfo, scan: TensorScan, *, of_several: bool) -> str:
    """Where the first one is, as an index into the tensor such as ``[3, 2]``; nothing for a scalar."""
    if not tensor.shape:
        return ""
    index: list[int] = []
    rest = scan.first_nonfinite or 0
    for size in reversed(tensor.shape):
        rest, position = divmod(rest, size)
        index.insert(0, position)
    return f"; the first{f' of {tensor.name}' if of_several else ''} is at {index}"
