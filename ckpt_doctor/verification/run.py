"""A checkpoint, a model and a loader to coverage: the one way in for the command line and for Python."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ckpt_doctor.core.coverage import MODES, Coverage, Mode
from ckpt_doctor.core.errors import UnknownNameError
from ckpt_doctor.runtime.dependencies import require

from .asking import ask
from .building import build
from .hosting.isolation import surroundings_put_back
from .judging import judge_keys, judge_load
from .loading import load
from .model.loads import planned
from .opening import opened
from .proof.safety import Safety
from .question import AUTO, Names, Question
from .result import not_run, process_ended
from .stages import untold
from .values.marks import marked

if TYPE_CHECKING:
    from torch import nn

    from ckpt_doctor.core.layout import Layout

    from .question import Progress
    from .stages import Stage


@surroundings_put_back()
def verify(
    path: str | os.PathLike[str],
    model: str | Callable[..., Any] | nn.Module | None = None,
    *,
    loader: str | Callable[..., Any] | None = None,
    mode: Mode = "load",
    weaver_model: str | None = None,
    trigger_model: str | None = None,
    layout: str | None = None,
    layouts: Sequence[Layout] = (),
    trust_checkpoint: bool = False,
    progress: Progress | None = None,
    stage: Stage = untold,
) -> Coverage:
    """Load the checkpoint at ``path`` into ``model`` with ``loader``, and say which of its tensors arrived.

    ``model`` is what ``--model`` takes (a base model's path or hub id, a MemGen ``*.yaml``, ``module:attribute`` or
    ``file.py:attribute``), a callable, or a module that is there already; without one, the base that the checkpoint
    itself names, if it is a local folder. ``weaver_model`` and ``trigger_model`` are base models of MemGen's parts,
    where these are others. ``loader`` is ``"auto"``, ``"memgen-upstream"``, ``"memgen-fork"``, ``"file.py:function"``
    or a callable ``function(model, path)``. ``mode`` is ``load``, ``keys`` or ``forward``. ``layouts`` are those that a
    team has defined. ``progress`` is called with the bytes compared so far and in all, ``stage`` with what begins:
    ``building``, ``loading`` or ``judging``, and what that is done to or with.

    Raises ``VerificationError`` if nothing could be judged, and what ``open_checkpoint`` raises.
    """
    if mode not in MODES:
        raise UnknownNameError(f"there is no mode {mode!r}: one of {', '.join(MODES)}")
    question = ask(
        opened(path, layout, layouts),
        os.fspath(path),
        model,
        loader,
        mode,
        weaver_model=weaver_model,
        trigger_model=trigger_model,
        trusts=trust_checkpoint,
        progress=progress,
        stage=stage,
    )
    safety = Safety(question.checkpoint)
    if safety.unsafe and (question.runs_known_code or not question.trusts):
        return not_run(question, safety)
    require("torch")
    plan = planned(question)
    if question.mode == "keys":
        return judge_keys(question, plan, safety)
    built = build(question, plan)
    with marked(built.model, question.checkpoint) as marks:
        return judge_load(question, plan, safety, load(question, plan, built, marks))


def ended(path: str, model: str | None, who: str, how: str, lines: list[str], **options: Any) -> Coverage:
    """The coverage of a load that ``who`` ended the process of; ``options`` are those of :func:`verify`."""
    checkpoint = opened(path, options.get("layout"), options.get("layouts", ()))
    names = Names(model or "", who if who in (options.get("loader"), model) else AUTO)
    question = Question(path, checkpoint, None, None, names, options.get("mode", MODES[0]))
    return process_ended(question, Safety(checkpoint), who, how, lines)
