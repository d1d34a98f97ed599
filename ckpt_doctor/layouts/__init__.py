"""A directory to a checkpoint: which files belong together and what each must hold."""

from .discovery import discover, find, nothing_found, read, survey
from .found import Found, Survey
from .registry import LAYOUTS

__all__ = ["LAYOUTS", "Found", "Survey", "discover", "find", "nothing_found", "read", "survey"]
