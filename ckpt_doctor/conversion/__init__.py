"""From one weight format to the other: fast, checked, and never at the cost of the original."""

from .outcome import AliasOutcome, Conversion, ConvertedFile
from .run import convert

__all__ = ["AliasOutcome", "Conversion", "ConvertedFile", "convert"]
