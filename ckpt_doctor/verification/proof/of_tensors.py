"""Findings about the tensors of one part: lost, of another shape, changed by a cast, missed by a naive loader."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ckpt_doctor.core.findings import Finding
from ckpt_doctor.rules.naive_load_matches_nothing import NaiveLoadMatchesNothing
from ckpt_doctor.rules.shape_mismatch import OtherShape, ShapeMismatch
from ckpt_doctor.rules.tensor_not_restored import Loss, TensorNotRestored
from ckpt_doctor.rules.value_changed_by_cast import ValueChangedByCast
from ckpt_doctor.verification.names.matching import PartMatch
from ckpt_doctor.verification.names.namings import raw_names
from ckpt_doctor.verification.values.coded import CODES
from ckpt_doctor.verification.values.comparing import Verdict
from ckpt_doctor.verification.values.row import Row, is_quantised

from .by_name import JudgedPart, is_untouched
from .evidence import Evidence
from .steps import next_step


def lost_rows(part: JudgedPart) -> list[Row]:
    """The tensors that CKD001 is about: absent, and not because of their shape."""
    if part.match.part.secondary:
        return []
    return [row for row in _absent(part) if not row.has_other_shape and row.wanted.tensor.numel]


def findings_of(evidence: Evidence, part: JudgedPart) -> Iterator[Finding]:
    """CKD004, CKD001, CKD008 and CKD005 of one part."""
    if part.match.part.secondary:
        return
    yield from _shapes(part)
    lost = lost_rows(part)
    if lost:
        yield TensorNotRestored().report(
            _loss(evidence, part.match, lost), next_step(part.match, evidence.shown_folder)
        )
    yield from _casts(part.rows)
    yield from _naive(evidence, part)


def _absent(part: JudgedPart) -> list[Row]:
    return [row for row in part.rows if not row.arrived and not row.needless]


def _shapes(part: JudgedPart) -> Iterator[Finding]:
    rows = [row for row in _absent(part) if row.has_other_shape]
    pairs = [
        OtherShape(row.wanted.tensor.name, row.wanted.tensor.shape, row.target.name, row.target.shape)
        for row in rows
        if row.target is not None
    ]
    if pairs:
        yield ShapeMismatch().report(rows[0].wanted.file.path, pairs)


def _loss(evidence: Evidence, match: PartMatch, lost: Sequence[Row]) -> Loss:
    return Loss(
        match.part.name,
        lost[0].wanted.file.path,
        _names(lost),
        untouched=sum(bool(is_untouched(row, evidence.fates)) for row in lost),
        quantised=sum(row.target is not None and is_quantised(row.wanted.tensor, row.target) for row in lost),
        elsewhere=[(row.wanted.tensor.name, row.found_in) for row in lost if row.found_in],
        unadapted=match.unadapted,
        reason=_common_reason(lost),
    )


def _common_reason(lost: Sequence[Row]) -> str:
    """Why tensors did not arrive whose name and shape fit, where it is the same for all of them."""
    reasons = {row.detail for row in lost if row.verdict is None and row.target is not None and not row.has_other_shape}
    reasons |= {row.detail for row in lost if row.verdict is not None and row.detail.startswith(CODES)}
    same = len(reasons) == 1 and all(row.detail in reasons for row in lost)
    return reasons.pop() if same else ""


def _casts(rows: Sequence[Row]) -> Iterator[Finding]:
    for verdict in (Verdict.ROUNDED, Verdict.OVERFLOWN):
        changed = [row for row in rows if row.verdict is verdict]
        for dtypes in sorted({row.detail for row in changed}):
            group = [row for row in changed if row.detail == dtypes]
            overflown = verdict is Verdict.OVERFLOWN
            yield ValueChangedByCast().report(group[0].wanted.file.path, _names(group), dtypes, overflown=overflown)


def _naive(evidence: Evidence, part: JudgedPart) -> Iterator[Finding]:
    """CKD005 where nothing arrived, no key is a name of the model, and all are once the adapter's name is back."""
    match, adapter = part.match, part.match.naming.adapter
    if match.part.role != "adapter" or adapter is None or not _found_nothing(evidence, part):
        return
    names = raw_names(evidence.live)
    if any(row.wanted.tensor.name in names for row in part.rows):
        return
    start = f"{match.naming.path}." if match.naming.path else ""
    mapping = {row.wanted.tensor.name: row.target.name.removeprefix(start) for row in part.rows if row.target}
    if not all(_without(live, adapter).startswith(name) for name, live in mapping.items()):
        return  # other things than the adapter's name differ: advice about it would mislead
    folder = f"{evidence.shown_folder}/{match.part.directory}".rstrip("/")
    file = match.part.preferred[0].path
    yield NaiveLoadMatchesNothing().report(file, mapping, adapter, match.naming.path, folder)


def _found_nothing(evidence: Evidence, part: JudgedPart) -> bool:
    """True if all values were compared, and the load wrote to none of the parameters: it is names that it lacked.

    Without marks the adapter must look as PEFT makes one: something in it is zero.
    """
    if len(_absent(part)) < len(part.rows):
        return False
    if any(row.verdict is None or row.target is None or row.has_other_shape for row in part.rows):
        return False
    if evidence.fates is not None:
        return all(is_untouched(row, evidence.fates) is not False for row in part.rows)
    values = [row.target.value() for row in part.rows if row.target is not None and not row.target.computed]
    return any(value.device.type != "meta" and not bool(value.any()) for value in values)


def _without(name: str, adapter: str) -> str:
    return ".".join(word for word in name.split(".") if word != adapter)


def _names(rows: Sequence[Row]) -> list[str]:
    return [row.wanted.tensor.name for row in rows]
