"""A directory to a checkpoint: which files belong together and what each must hold."""

from .discovery import LAYOUTS, discover, find, nothing_found, survey
from .match import Found, Survey

__all__ = ["LAYOUTS", "Found", "Survey", "discover", "find", "nothing_found", "survey"]
