"""How much more a file system can take."""

from __future__ import annotations

import os
from pathlib import Path


def free_bytes(folder: Path) -> int | None:
    """Free bytes of the file system that ``folder`` is on; ``None`` if it is not known. Raises ``OSError``."""
    if not hasattr(os, "statvfs"):
        return None
    space = os.statvfs(folder)
    # Some file systems do not know their size.
    return space.f_bfree * space.f_frsize if space.f_blocks else None
