"""A helper for tests of training and evaluation code."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ckpt_doctor.core.errors import IncompleteLoadError
from ckpt_doctor.verification import load_coverage

if TYPE_CHECKING:
    from torch import nn

    from ckpt_doctor.core.coverage import Coverage
    from ckpt_doctor.core.layout import Layout


def assert_fully_loaded(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    layout: str | None = None,
    layouts: Sequence[Layout] = (),
) -> Coverage:
    """Fail a test unless ``model`` holds every tensor of the checkpoint at ``path``; returns the coverage.

    The message of the ``AssertionError`` is the table of what arrived. Use ``ckpt_doctor.watch_load`` around the load
    where the model could hold the right values already.
    """
    __tracebackhide__ = True
    coverage = load_coverage(model, path, layout=layout, layouts=layouts)
    try:
        coverage.raise_if_incomplete()
    except IncompleteLoadError as error:
        raise AssertionError(str(error)) from None
    return coverage
