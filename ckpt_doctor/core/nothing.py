"""The empty mapping that stands for none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NOTHING: Mapping[str, Any] = {}
"""The default of every mapping here, which is never written to."""
