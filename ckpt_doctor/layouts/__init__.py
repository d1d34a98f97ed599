"""A directory to a checkpoint: which files belong together and what each must hold."""

from .discovery import discover, find, nothing_found, survey
from .found import Found, Survey
from .opening import read
from .registry import LAYOUTS

__all__ = ["LAYOUTS", "Found", "Survey", "discover", "find", "nothing_found", "read", "survey"]
