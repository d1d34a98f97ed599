"""A loaded model and a checkpoint to coverage: what became of every tensor, and which findings follow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.coverage import CAST, MISMATCHED, MISSING, RESTORED, TensorCoverage
from ckpt_doctor.core.errors import VerificationError
from ckpt_doctor.core.findings import Finding
from ckpt_doctor.core.wording import counted, shape
from ckpt_doctor.verification.model.live import Place, Target, place
from ckpt_doctor.verification.model.offloaded import offloaded
from ckpt_doctor.verification.names.made_anew import made_anew
from ckpt_doctor.verification.names.matching import PartMatch, match
from ckpt_doctor.verification.names.namings import raw_names
from ckpt_doctor.verification.names.packed import add_packed, lacks, quantisation
from ckpt_doctor.verification.names.tied import judge_tied
from ckpt_doctor.verification.names.wanted import Wanted, component_names, wanted
from ckpt_doctor.verification.values.coded import CODES, judge_codes
from ckpt_doctor.verification.values.comparing import Verdict, compare
from ckpt_doctor.verification.values.content import by_content
from ckpt_doctor.verification.values.finite import not_finite
from ckpt_doctor.verification.values.marks import Fates
from ckpt_doctor.verification.values.reading import TensorReader
from ckpt_doctor.verification.values.telling import tell

from . import findings as words
from .covered import uncovered
from .idle import idle_adapters, is_applied
from .merging import Reference, find_merged
from .scaling import scaled_otherwise
from .steps import with_steps

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import nn

    Progress = Callable[[int, int], None]

_THREADS = 2
_UNPROVEN = "could not be marked: whether the load wrote it is not known"


@dataclass
class Row:
    """A tensor of the checkpoint and its target; ``verdict`` says how the values compare, where they count.

    ``found_in`` is a parameter that has the values and may not be the place for them. ``needless`` are those that the
    model computes by itself.
    """

    wanted: Wanted
    target: Target | None
    verdict: Verdict | None
    status: str
    detail: str = ""
    found_in: str = ""
    needless: bool = False


def assess(
    model: nn.Module,
    checkpoint: Checkpoint,
    *,
    values: bool = True,
    fates: Fates | None = None,
    whole: bool = False,
    exact: bool = False,
    final: bool = False,
    folder: str | None = None,
    reference: Reference | None = None,
    lines: list[str] | None = None,
    progress: Progress | None = None,
) -> tuple[tuple[TensorCoverage, ...], list[Finding]]:
    """Judge every tensor of ``checkpoint`` against ``model``.

    ``values`` compares them, else name and shape decide. ``fates`` tell what became of marks during the load.
    ``whole`` says that a whole model must be covered in every parameter, ``exact`` that only names count that the
    ecosystem's loaders understand, ``final`` that nobody prepares the model further after this load. ``folder`` is how
    the checkpoint is named in advice. ``reference`` makes the base of an adapter anew, for where a loader may have
    merged it; what cannot be told goes to ``lines``.
    """
    found = match(model, checkpoint, exact=exact)
    settings = quantisation(checkpoint)
    if settings and not values:
        for part in found:
            add_packed(model, part, settings)
    rows: list[Row] = []
    problems: list[Finding] = []
    total = sum(item.tensor.nbytes for part in found for item in part.tensors)
    done = 0
    lock = Lock()  # two threads compare

    def advance(nbytes: int) -> None:
        nonlocal done
        with lock:
            done += nbytes
            if progress is not None:
                progress(done, total)

    for number, part in enumerate(found):
        judged = _judge(checkpoint, part, values=values, fates=fates, advance=advance)
        for rival in part.rivals if values else ():
            # Two adapters of one shape: the one that the values are in is the one that was loaded; if both hold them,
            # the one that the model applies.
            other = _judge(checkpoint, rival, values=True, fates=fates, advance=lambda _: None)
            if (_arrived(other), is_applied(model, rival)) > (_arrived(judged), is_applied(model, found[number])):
                judged, found[number] = other, rival
        rows += judged
    if values:
        _find_offloaded(model, checkpoint, rows)
        by_content(model, checkpoint, rows)
    _forgive(model, rows)
    with TensorReader(checkpoint.root) as reader:
        judge_codes(rows, settings, reader, values=values)
        if not values:
            judge_tied(model, rows, reader)
    if settings and not values:
        _without_partners(found, rows, settings)
    untold = 0
    for part in found:
        own = [row for row in rows if row.wanted.part is part.part]
        if reference is not None and part.unadapted and _arrived(own) < len(own):
            unknown = find_merged(model, str(checkpoint.root / part.part.directory), own, reference)
            if unknown is not None and lines is not None:
                lines.append(unknown)
        untold += tell(own, fates) if values else 0
        _raise_if_unproven(own, fates)
        problems += _problems(model, checkpoint, part, own, fates, folder or str(checkpoint.root))
    if untold and lines is not None:
        lines.append(
            f"{counted(untold, 'tensor')} hold one value throughout, as a new model may: that a load wrote them cannot "
            "be told afterwards. watch_load can tell"
        )
    problems += uncovered(model, checkpoint, found, whole=whole, exact=exact)
    problems = with_steps(problems, found, folder or str(checkpoint.root))
    if values:
        problems += idle_adapters(model, checkpoint, found, final=final)
        problems += scaled_otherwise(model, found)
        problems += not_finite(checkpoint)
    return _coverage(checkpoint, rows), problems


def _without_partners(found: list[PartMatch], rows: list[Row], settings: Mapping[str, Any]) -> None:
    """Codes of a quantiser that lack what they have to be multiplied by are no weights."""
    absent = {name: other for part in found for name, other in lacks(part.part, settings).items()}
    for row in rows:
        other = absent.get(row.wanted.tensor.name)
        if other is not None and row.status == RESTORED:
            row.status, row.detail = MISSING, f"codes of a quantised weight, and {other} is not in the checkpoint"


def nothing_arrived(checkpoint: Checkpoint) -> tuple[TensorCoverage, ...]:
    """The tensors of a checkpoint that no load could be judged for."""
    rows = [Row(item, None, None, MISSING) for items in wanted(checkpoint).values() for item in items]
    return _coverage(checkpoint, rows)


def _judge(
    checkpoint: Checkpoint,
    part: PartMatch,
    *,
    values: bool,
    fates: Fates | None,
    advance: Callable[[int], None],
) -> list[Row]:
    def judge_some(items: list[Wanted]) -> list[Row]:
        judged = []
        with TensorReader(checkpoint.root) as reader:
            for item in items:
                judged.append(_row(reader, item, part.targets.get(item.tensor.name), values=values, fates=fates))
                advance(item.tensor.nbytes)
        return judged

    size = sum(item.tensor.nbytes for item in part.tensors)
    if not values or size < (1 << 26):
        return judge_some(part.tensors)
    # Reading and comparing release the interpreter's lock.
    shares = [part.tensors[number::_THREADS] for number in range(_THREADS)]
    with ThreadPoolExecutor(_THREADS) as pool:
        judged = [row for rows in pool.map(judge_some, shares) for row in rows]
    order = {id(item): number for number, item in enumerate(part.tensors)}
    return sorted(judged, key=lambda row: order[id(row.wanted)])


def _row(reader: TensorReader, item: Wanted, target: Target | None, *, values: bool, fates: Fates | None) -> Row:
    if target is None:
        return Row(item, None, None, MISSING, "no parameter of the model has this name")
    if _quantised(item, target):
        there = str(target.dtype).removeprefix("torch.")
        detail = f"the parameter is quantised ({there}): what it holds cannot be compared"
        return Row(item, target, Verdict.DIFFERENT if values else None, MISMATCHED, detail)
    if target.shape != tuple(item.tensor.shape):
        detail = f"{shape(item.tensor.shape)} in the checkpoint, {shape(target.shape)} in the model"
        return Row(item, target, Verdict.DIFFERENT if values else None, MISMATCHED, detail)
    if not values:
        return Row(item, target, None, RESTORED)
    untouched = fates.untouched(target) if fates is not None else None
    if untouched:
        return Row(item, target, Verdict.DIFFERENT, MISSING, "the load did not write to the parameter")
    try:
        live = target.value()
        verdict, dtypes = compare(reader, item.file.path, item.tensor, live, computed=target.computed)
    except OSError as error:
        return Row(item, target, Verdict.DIFFERENT, MISSING, f"cannot be read: {error}")
    if verdict is Verdict.EQUAL:
        return Row(item, target, verdict, RESTORED, _UNPROVEN if _is_unproven(item, fates) else "")
    if verdict in (Verdict.ROUNDED, Verdict.OVERFLOWN):
        return Row(item, target, verdict, CAST, dtypes)
    if live.device.type == "meta":
        return Row(item, target, verdict, MISSING, "the parameter is on the meta device: it has no values")
    # Without marks nobody can tell a parameter that was left alone from one that got other values.
    return Row(item, target, verdict, MISSING if untouched is None else MISMATCHED, "the parameter has other values")


def _quantised(item: Wanted, target: Target) -> bool:
    """Whether the parameter holds packed integers where the checkpoint has floating point numbers."""
    integers = not target.dtype.is_floating_point and not target.dtype.is_complex
    return integers and item.tensor.dtype.name.startswith(("float", "bfloat"))


def _is_unproven(item: Wanted, fates: Fates | None) -> bool:
    return fates is not None and (item.file.path, item.tensor.name) in fates.unproven


def _raise_if_unproven(rows: list[Row], fates: Fates | None) -> None:
    """One tensor may hide among others that were written; where nothing was seen to be, nothing is known."""
    arrived = [row for row in rows if row.status in (RESTORED, CAST) and row.wanted.tensor.numel]
    if arrived and all(_is_unproven(row.wanted, fates) for row in arrived):
        raise VerificationError(
            f"the parameters for the {arrived[0].wanted.part.name} held its values before the load, and are of a kind "
            "that cannot be marked: whether the load wrote them is not known. Judge it with a model of other values"
        )


def _find_offloaded(model: nn.Module, checkpoint: Checkpoint, rows: list[Row]) -> None:
    """Judge again what is on the meta device in the model, and kept for it elsewhere."""
    with TensorReader(checkpoint.root) as reader:
        for row in rows:
            if row.target is None or not row.target.whole or row.target.value().device.type != "meta":
                continue
            kept = offloaded(model, row.target.name)
            if kept is None or tuple(kept.shape) != row.target.shape:
                continue
            found = _row(reader, row.wanted, replace(row.target, value=partial(_same, kept)), values=True, fates=None)
            row.verdict, row.status, row.detail = found.verdict, found.status, found.detail


def _same(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def _forgive(model: nn.Module, rows: list[Row]) -> None:
    lost = [row for row in rows if row.target is None and row.wanted.part.role != "adapter"]
    names = made_anew(model, [row.wanted.tensor for row in lost])
    for row in lost:
        if row.wanted.tensor.name in names:
            row.needless, row.detail = True, "the model computes it by itself"


def _arrived(rows: Iterable[Row]) -> int:
    return sum(row.status in (RESTORED, CAST) for row in rows)


def _problems(
    model: nn.Module,
    checkpoint: Checkpoint,
    part: PartMatch,
    rows: list[Row],
    fates: Fates | None,
    folder: str,
) -> Iterator[Finding]:
    if part.part.secondary:
        return
    absent = [row for row in rows if row.status in (MISSING, MISMATCHED) and not row.needless]
    shaped = [(row.wanted, row.target.name, row.target.shape) for row in absent if row.target and _other_shape(row)]
    if shaped:
        yield words.shapes(shaped)
    lost = [row for row in absent if not _other_shape(row) and row.wanted.tensor.numel]
    if lost:
        untouched = sum(bool(_is_untouched(row, fates)) for row in lost)
        packed = sum(row.target is not None and _quantised(row.wanted, row.target) for row in lost)
        elsewhere = [(row.wanted.tensor.name, row.found_in) for row in lost if row.found_in]
        tensors = [row.wanted for row in lost]
        yield words.not_restored(
            part.part, tensors, untouched, packed, elsewhere, unadapted=part.unadapted, why=_common_reason(lost)
        )
    for verdict in (Verdict.ROUNDED, Verdict.OVERFLOWN):
        changed = [row for row in rows if row.verdict is verdict]
        for dtypes in sorted({row.detail for row in changed}):
            group = [row.wanted for row in changed if row.detail == dtypes]
            yield words.cast(group, dtypes, overflown=verdict is Verdict.OVERFLOWN)
    adapted = part.part.role == "adapter" and part.naming.adapter is not None
    if adapted and len(absent) == len(rows) and _found_nothing(rows, fates):
        yield from _naive(model, part, rows, f"{folder}/{part.part.directory}".rstrip("/"))


def _common_reason(lost: list[Row]) -> str:
    """Why tensors did not arrive whose name and shape fit, where it is the same for all of them."""
    reasons = {row.detail for row in lost if row.verdict is None and row.target is not None and not _other_shape(row)}
    reasons |= {row.detail for row in lost if row.verdict is not None and row.detail.startswith(CODES)}
    same = len(reasons) == 1 and all(row.detail in reasons for row in lost)
    return reasons.pop() if same else ""


def _found_nothing(rows: list[Row], fates: Fates | None) -> bool:
    """Whether the load wrote to none of the parameters: then it is for want of a name that they are lost.

    Without marks the adapter must look as PEFT makes one: something in it is zero.
    """
    if fates is not None:
        return all(_is_untouched(row, fates) is not False for row in rows)
    values = [row.target.value() for row in rows if row.target is not None and not row.target.computed]
    return any(value.device.type != "meta" and not bool(value.any()) for value in values)


def _other_shape(row: Row) -> bool:
    if row.target is None or _quantised(row.wanted, row.target):
        return False
    return row.target.shape != tuple(row.wanted.tensor.shape)


def _is_untouched(row: Row, fates: Fates | None) -> bool | None:
    return None if fates is None or row.target is None else fates.untouched(row.target)


def _naive(model: nn.Module, part: PartMatch, rows: list[Row], folder: str) -> Iterator[Finding]:
    """CKD005 where nothing arrived, no key is a name of the model, and all are once the adapter's name is back."""
    if any(row.verdict is None for row in rows) or any(row.target is None or _other_shape(row) for row in rows):
        return
    names = raw_names(model)
    if any(row.wanted.tensor.name in names for row in rows):
        return
    path, adapter = part.naming.path, part.naming.adapter or ""
    start = f"{path}." if path else ""
    mapping = {row.wanted.tensor.name: row.target.name.removeprefix(start) for row in rows if row.target is not None}
    if not all(_without(live, adapter).startswith(name) for name, live in mapping.items()):
        return  # other things than the adapter's name differ: advice about it would mislead
    yield words.naive_load(part.part, mapping, adapter, path, folder)


def _without(name: str, adapter: str) -> str:
    return ".".join(word for word in name.split(".") if word != adapter)


def _coverage(checkpoint: Checkpoint, rows: list[Row]) -> tuple[TensorCoverage, ...]:
    """The rows as words. Of tensors that are for one and the same parameter and fared alike, the first is counted."""
    seen: set[tuple[Place, bool]] = set()
    components = component_names(checkpoint)
    result = []
    for row in rows:
        item, target = row.wanted, row.target
        # Without elements there is nothing to restore, and nothing to lose.
        has_values = item.tensor.numel > 0 or _other_shape(row)
        expected = not item.part.secondary and not row.needless and has_values
        if expected and target is not None and not target.computed:
            where = (place(target.value()), row.status in (RESTORED, CAST))
            expected = where not in seen
            seen.add(where)
        result.append(
            TensorCoverage(
                item.tensor.name,
                item.file.path,
                components.get((item.file.path, item.tensor.name), item.part.name),
                row.status,
                target.name if target is not None else None,
                row.detail,
                expected,
            )
        )
    return tuple(result)
