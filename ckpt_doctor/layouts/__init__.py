"""A directory to a checkpoint: which files belong together and what each must hold."""

from .discovery import LAYOUTS, discover

__all__ = ["LAYOUTS", "discover"]
