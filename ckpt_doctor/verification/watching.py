"""Coverage of loads that happen in the user's own program."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ckpt_doctor.core.coverage import Coverage
from ckpt_doctor.core.errors import VerificationError
from ckpt_doctor.runtime.dependencies import require

from .opening import opened
from .proof.assess import assess
from .proof.evidence import Evidence
from .proof.safety import Safety
from .question import Names, Question
from .result import coverage
from .values.marks import Fates, marked

if TYPE_CHECKING:
    from torch import nn

    from ckpt_doctor.core.checkpoint import Checkpoint
    from ckpt_doctor.core.layout import Layout


def load_coverage(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    layout: str | None = None,
    layouts: Sequence[Layout] = (),
) -> Coverage:
    """What of the checkpoint at ``path`` is in ``model``, which was loaded by whatever means.

    Values are compared, and nothing is changed. A parameter that held the checkpoint's values before the load cannot be
    told from a loaded one here: :func:`watch_load` can. Zeros and ones, as every new model has them, count only where
    something else of their module arrived, and ``log`` says how many they are. Takes and raises what
    ``open_checkpoint`` does, and ``VerificationError`` for what is no model.
    """
    _refuse_others(model)
    checkpoint = opened(path, layout, layouts)
    return _coverage(model, checkpoint, Safety(checkpoint), os.fspath(path), "load_coverage", None)


class LoadWatch:
    """The coverage of a watched load: after the block it has everything that :class:`Coverage` has."""

    def __init__(self) -> None:
        self.coverage: Coverage | None = None
        """``None`` until the block has ended, and where it ended with an exception."""

    def __getattr__(self, name: str) -> Any:
        coverage = self.__dict__.get("coverage")
        if coverage is None:
            raise VerificationError(f"the load has not ended, or failed: there is no {name} yet")
        return getattr(coverage, name)


@contextmanager
def watch_load(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    layout: str | None = None,
    layouts: Sequence[Layout] = (),
) -> Iterator[LoadWatch]:
    """Prove what the load within this block restores from the checkpoint at ``path`` into ``model``.

    When the block begins, up to three elements of every parameter that holds the checkpoint's values already are
    overwritten with a number that is neither, so it does not count as loaded by accident (zeros, ones). When the
    block ends, what it did not write to gets its own values back.
    An exception of the block passes through, and the model is put in order all the same.
    """
    _refuse_others(model)
    checkpoint = opened(path, layout, layouts)
    watch = LoadWatch()
    safety = Safety(checkpoint)
    with marked(model, checkpoint) as marks:
        with marks.watched():
            yield watch
        safety.files.check()
        judged = _coverage(model, checkpoint, safety, os.fspath(path), "watch_load", marks.fates(model))
    watch.coverage = judged


def _refuse_others(model: object) -> None:
    if not isinstance(model, require("torch").nn.Module):
        raise VerificationError(
            f"a {type(model).__name__} is not a torch.nn.Module: give the model that the checkpoint is loaded into"
        )


def _coverage(
    model: nn.Module, checkpoint: Checkpoint, safety: Safety, path: str, loader: str, fates: Fates | None
) -> Coverage:
    tensors, problems, notes = assess(Evidence(model, checkpoint, fates=fates, folder=path))
    question = Question(path, checkpoint, None, None, Names(type(model).__name__, loader))
    return coverage(question, tensors, [*problems, *safety.unsafe, *safety.broken], notes)
