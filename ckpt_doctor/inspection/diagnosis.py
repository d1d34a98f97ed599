"""One checkpoint, judged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.results import Diagnosis
from ckpt_doctor.layouts import Found, read
from ckpt_doctor.rules import rules_for

Progress = Callable[[int, int], None]
"""Called with what is done so far and what there is to do: bytes, or checkpoints."""

_DEFAULT = Policy()


class Standard(Protocol):
    """What checkpoints are held against besides the rules: see ``contracts``. It can be pickled."""

    def wants_digest(self, file: str, name: str) -> bool:
        """True if it needs the SHA-256 of this tensor."""

    def compared(self, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint with what the comparison showed."""


def judge_one(
    found: Found,
    policy: Policy,
    standard: Standard | None = None,
    *,
    progress: Progress | None = None,
    threads: int | None = None,
) -> Diagnosis:
    """Read and diagnose one checkpoint; with ``deep``, its tensor bytes in up to ``threads`` threads."""
    checkpoint = read(found)
    if policy.deep:
        wants_digest = None if standard is None else standard.wants_digest
        (checkpoint,) = scanned([checkpoint], progress, wants_digest=wants_digest, threads=threads)
    return diagnose(checkpoint if standard is None else standard.compared(checkpoint), policy)


def diagnose(checkpoint: Checkpoint, policy: Policy = _DEFAULT) -> Diagnosis:
    """Judge one checkpoint that was read already."""
    if checkpoint.kind.covers == "model":
        # Nothing else pays for reading a table.
        from ckpt_doctor.analysis.architecture.comparing import with_architectures

        checkpoint = with_architectures(checkpoint)
    findings: list[Finding] = []
    for rule in rules_for(checkpoint):
        selected = policy.runs(rule.code, rule.name)
        found = rule().check(checkpoint, policy)
        findings += [
            policy.adjusted(finding)
            for finding in found
            if finding.always_fails or (selected and not policy.ignores(finding, checkpoint))
        ]
    findings.sort(key=lambda finding: (finding.severity.rank, finding.code, finding.path or "", finding.tensors))
    return Diagnosis(checkpoint, tuple(findings), policy.deep)


def scanned(
    checkpoints: list[Checkpoint],
    progress: Progress | None,
    *,
    wants_digest: Callable[[str, str], bool] | None = None,
    threads: int | None = None,
) -> list[Checkpoint]:
    """The checkpoints with what their tensor bytes say; ``wants_digest`` and ``threads`` as in ``scanning.scan``."""
    from ckpt_doctor.scanning import bytes_to_scan, scan

    total = sum(bytes_to_scan(checkpoint) for checkpoint in checkpoints)
    done = 0
    result = []
    for checkpoint in checkpoints:
        before = done

        def advance(read: int, _: int, before: int = before) -> None:
            if progress is not None:
                progress(before + read, total)

        result.append(scan(checkpoint, progress=advance, wants_digest=wants_digest, threads=threads))
        done += bytes_to_scan(checkpoint)
    return result
