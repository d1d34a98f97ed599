"""What ``inspect --verbose`` says: why a folder was or was not taken for a checkpoint."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ckpt_doctor.core.policy import Policy
from ckpt_doctor.layouts import Found, survey
from ckpt_doctor.layouts.answers import Answer, answers
from ckpt_doctor.layouts.recogniser import Demand

_ADAPTER = "adapter_config.json or adapter_model.*"
_MODEL = "model*.safetensors or pytorch_model*.bin"
_WORDS = {
    "file": "the file {}",
    "folder": "the folder {}/",
    "name": "the name {}",
    "absence": "no {} beside it",
    "alone": "no other weights beside {}",
    "tensors": "the tensors of its kind in {}",
    "any of": "any of {}",
}
_NEGATIVE = ("absence", "alone")
_IN_PLACES = {"adapter": _ADAPTER, "model": _MODEL}


def recognition(paths: Iterable[str], policy: Policy) -> Iterator[str]:
    """Lines for each of ``paths``: each checkpoint there with its markers, then what the path itself lacks.

    Raises ``PathNotFoundError`` and ``UnknownNameError``, as the inspection does.
    """
    for path in paths:
        found = [item for item in survey(path, policy.layout, layouts=policy.layouts).found if not item.absent]
        for item in found:
            yield _why(item, policy)
        is_one = any(os.path.abspath(item.root) == os.path.abspath(path) and not item.name for item in found)
        inside = any(item.root in Path(os.path.abspath(path)).parents for item in found)
        if Path(path).is_dir() and not is_one and not inside:
            yield f"{path} is not a checkpoint itself:"
            yield from _why_not(answers(path, policy.layouts))


def _why(found: Found, policy: Policy) -> str:
    if found.kind.grain == "file":
        return f"{found.path} is a weight file: no kind of folder claims it"
    of_its_kind = (answer for answer in answers(found.root, policy.layouts) if answer.layout == found.layout)
    return f"{found.path} is recognised as {found.layout}: {_reason(next(of_its_kind), policy.layout)}"


def _reason(answer: Answer, asked_for: str | None) -> str:
    if not answer.recognised:
        # Only the names of its tensors tell a whole MemGen model from any other.
        return f"--layout {asked_for} says so" if asked_for else "the names of its tensors say so"
    return f"found {_shown(answer.met)}" if answer.by == "sign" else "the content of its files says so"


def _why_not(said: Iterable[Answer]) -> Iterator[str]:
    for answer in said:
        if answer.by == "content":
            yield f"  {answer.layout}: its files have the right names but another content"
        else:
            here = [demand for demand in answer.met if demand[0] not in _NEGATIVE]
            found = f" (found {_shown(here)})" if here else ""
            yield f"  {answer.layout}: did not find {_shown(answer.unmet)}{found}"


def _shown(demands: Sequence[Demand]) -> str:
    return ", ".join(_said(*demand) for demand in demands)


def _said(what: str, where: str) -> str:
    if what in _IN_PLACES:
        return f"{_IN_PLACES[what]} in {where}/" if where else _IN_PLACES[what]
    return _WORDS[what].format(where)
