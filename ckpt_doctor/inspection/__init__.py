"""Paths and a policy to a report: the one way in for the command line, the gate and Python."""

from __future__ import annotations

from .diagnosis import Progress, Standard, diagnose, scanned
from .run import at, inspect, judge, open_checkpoint, the_one

__all__ = ["Progress", "Standard", "at", "diagnose", "inspect", "judge", "open_checkpoint", "scanned", "the_one"]
