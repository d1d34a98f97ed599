"""The empty mapping, used as a default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NOTHING: Mapping[str, Any] = {}
"""The default of every mapping here, which is never written to."""
