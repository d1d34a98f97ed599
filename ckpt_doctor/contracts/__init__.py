"""Contracts: what a good checkpoint holds, written down, and every later one held against it; two compared at once."""

from .inspecting import HeldAgainst, inspect_against
from .locking import lock, locked
from .reading import read_contract
from .side_by_side import diff

__all__ = ["HeldAgainst", "diff", "inspect_against", "lock", "locked", "read_contract"]
