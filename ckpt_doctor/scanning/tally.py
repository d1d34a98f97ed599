"""The facts known so far about one tensor whose bytes come in block after block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ckpt_doctor.core.weight_file import TensorScan

from .elements import ElementKind

if TYPE_CHECKING:
    from hashlib import _Hash

    from .elements import Words


class Tally:
    """Counts over the elements of one tensor. Not safe for use by two threads at once."""

    def __init__(self, kind: ElementKind, *, digest: bool = False) -> None:
        self.kind = kind
        self.hasher: _Hash | None = None
        if digest:
            from hashlib import sha256

            self.hasher = sha256()
        self._seen = 0
        self._nonfinite = 0
        self._first: int | None = None
        self._zero = True
        self._constant = kind.comparable
        self._reference: Any = None  # the words of the first element

    def add_run(self, words: Words) -> None:
        """Take in the next elements of a tensor that lies contiguously; ``words`` holds whole elements."""
        if words.size == 0:
            return
        kind = self.kind
        if kind.any_nonfinite(words):
            bad = np.asarray(kind.nonfinite(words).reshape(-1, kind.words).any(axis=1))
            self.add_nonfinite(int(bad.sum()), self._seen + int(bad.argmax()))
        self.add_values(words)
        if self.hasher is not None:
            self.hasher.update(words.data)
        self._seen += words.size // kind.words

    def add_nonfinite(self, count: int, first: int) -> None:
        """Count elements that are not finite; ``first`` is the lowest flat index among them."""
        self._nonfinite += count
        self._first = first if self._first is None else min(first, self._first)

    def add_values(self, words: Words) -> None:
        """See whether the elements in ``words`` (one dimension, whole elements) are all zero, and all equal."""
        kind = self.kind
        if self._zero:
            self._zero = kind.all_zero(words)
        if self._constant:
            elements = words.reshape(-1, kind.words)
            if self._reference is None:
                self._reference = elements[0].copy()
                if kind.nibbles:
                    self._constant = int(self._reference[0]) >> 4 == int(self._reference[0]) & 0xF
            # Trained weights differ at once: the rest is looked at only where the first few are equal.
            self._constant = (
                self._constant
                and bool((elements[:64] == self._reference).all())
                and bool((elements == self._reference).all())
            )

    @property
    def digest(self) -> str | None:
        """Hex SHA-256 of the bytes so far, if it was asked for."""
        return None if self.hasher is None else self.hasher.hexdigest()

    def result(self, *, repeat: int = 1) -> TensorScan:
        """What was found; ``repeat`` is how often each element that was looked at stands in the tensor."""
        return TensorScan(
            nonfinite=self._nonfinite * repeat,
            first_nonfinite=self._first,
            zero=self._zero,
            constant=self._constant,
            digest=self.digest,
        )


EMPTY = TensorScan(nonfinite=0, first_nonfinite=None, zero=False, constant=False)
"""A tensor without elements: neither zero nor constant, since there is nothing to blame."""
