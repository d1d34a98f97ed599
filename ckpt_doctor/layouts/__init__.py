"""A directory to a checkpoint: which files belong together and what each must hold."""

from .discovery import LAYOUTS, discover, find
from .match import Found

__all__ = ["LAYOUTS", "Found", "discover", "find"]
