"""Paths and a policy to a report: the one way in for the command line, the gate and Python."""

from __future__ import annotations

from .run import Progress, diagnose, inspect, judge, open_checkpoint, scanned

__all__ = ["Progress", "diagnose", "inspect", "judge", "open_checkpoint", "scanned"]
