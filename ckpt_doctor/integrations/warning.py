"""The warning that integrations give, so it can be filtered by its class."""

from __future__ import annotations


class CheckpointWarning(UserWarning):
    """A checkpoint that was just written has errors."""
