"""The checkpoint at a path, as a load sees it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.inspection import the_one
from ckpt_doctor.layouts import discover
from ckpt_doctor.layouts.joining import joined

if TYPE_CHECKING:
    from ckpt_doctor.core.layout import Layout


def opened(path: str | os.PathLike[str], layout: str | None, layouts: Sequence[Layout] = ()) -> Checkpoint:
    """The one checkpoint at ``path``; a MemGen weaver and a trigger in one folder are one.

    Raises what ``open_checkpoint`` raises.
    """
    found = discover(path, layout, layouts=layouts)
    own = [item for item in found if os.path.abspath(item.root) == os.path.abspath(path)] or found
    return joined(own) or the_one(found, path)
