"""Paths and a policy to a report: the one way in for the command line, the gate and Python."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .checkpoint import Checkpoint
from .errors import NoCheckpointError
from .findings import Finding
from .layouts import discover
from .policy import Policy
from .results import Diagnosis, Report
from .rules import rules_for

if TYPE_CHECKING:
    from .layout_definition import LayoutDefinition

Progress = Callable[[int, int], None]
"""Called with the bytes read so far and the bytes in all."""

_DEFAULT = Policy()


def inspect(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    policy: Policy = _DEFAULT,
    *,
    progress: Progress | None = None,
) -> Report:
    """Diagnose every checkpoint at ``paths``. Nothing is executed, nothing is written.

    Raises ``PathNotFoundError`` or ``NoCheckpointError`` where a path leads to nothing, and ``UnknownNameError`` where
    the policy names what does not exist.
    """
    checkpoints = found_at(paths, policy)
    if policy.deep:
        checkpoints = scanned(checkpoints, progress)
    return Report(tuple(diagnose(checkpoint, policy) for checkpoint in checkpoints))


def found_at(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], policy: Policy = _DEFAULT
) -> list[Checkpoint]:
    """Every checkpoint at ``paths``, each once, with its headers read. Raises as :func:`inspect`."""
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    found: dict[tuple[Path, str, str], Checkpoint] = {}
    for path in paths:
        for checkpoint in discover(path, policy.layout, layouts=policy.layouts):
            # Two paths may lead to one checkpoint: it is judged once, under the first name.
            key = (Path(os.path.abspath(checkpoint.root)), checkpoint.layout, _own_name(checkpoint))
            found.setdefault(key, checkpoint)
    return list(found.values())


def diagnose(checkpoint: Checkpoint, policy: Policy = _DEFAULT) -> Diagnosis:
    """Judge one checkpoint that was read already."""
    findings: list[Finding] = []
    for rule in rules_for(checkpoint):
        selected = policy.runs(rule.code, rule.name, stable=rule.stable)
        found = rule().check(checkpoint, policy)
        findings += [
            policy.adjusted(finding)
            for finding in found
            if finding.always_fails or (selected and not policy.ignores(finding, checkpoint))
        ]
    findings.sort(key=lambda finding: (finding.severity.rank, finding.code, finding.path or "", finding.tensors))
    return Diagnosis(checkpoint, tuple(findings))


def open_checkpoint(
    path: str | os.PathLike[str], layout: str | None = None, *, layouts: Sequence[LayoutDefinition] = ()
) -> Checkpoint:
    """The one checkpoint at ``path``, with its tensors listed and nothing loaded.

    ``layouts`` are those that a team has defined (``load_settings().policy.layouts``). Raises ``NoCheckpointError``
    where several lie there, with their paths.
    """
    checkpoints = discover(path, layout, layouts=layouts)
    if len(checkpoints) > 1:
        own = [item for item in checkpoints if os.path.abspath(item.root) == os.path.abspath(path)]
        if len(own) != 1:
            names = ", ".join(item.path for item in checkpoints[:5])
            raise NoCheckpointError(f"{path} holds {len(checkpoints)} checkpoints ({names}, …): name one of them")
        checkpoints = own
    return checkpoints[0]


def _own_name(checkpoint: Checkpoint) -> str:
    """What tells two checkpoints of one folder apart: the file's name where each is a lone file."""
    return checkpoint.files[0].path if checkpoint.layout == "file" else ""


def scanned(
    checkpoints: list[Checkpoint],
    progress: Progress | None,
    *,
    wants_digest: Callable[[str, str], bool] | None = None,
) -> list[Checkpoint]:
    """The checkpoints with what their tensor bytes say; ``wants_digest`` as in ``scanning.scan``."""
    from .scanning import bytes_to_scan, scan

    total = sum(bytes_to_scan(checkpoint) for checkpoint in checkpoints)
    done = 0
    result = []
    for checkpoint in checkpoints:
        before = done

        def advance(read: int, _: int, before: int = before) -> None:
            if progress is not None:
                progress(before + read, total)

        result.append(scan(checkpoint, progress=advance, wants_digest=wants_digest))
        done += bytes_to_scan(checkpoint)
    return result
