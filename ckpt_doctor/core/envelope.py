"""The start of every JSON document: the version of its form, and the tool that wrote it."""

from __future__ import annotations

from typing import Any

from .version import __version__

TOOL = {"name": "ckpt-doctor", "version": __version__}
"""Who wrote a document."""


def envelope(*, kind: str | None = None, version: int = 1) -> dict[str, Any]:
    """The first keys of a document, to which its own are added.

    ``version`` is that of the document's form: it grows where a reader of the old form would misread the new one.
    ``kind`` says what the document is, where a file may be taken for something else.

    >>> list(envelope()), list(envelope(kind="ckpt-doctor contract"))
    (['schema_version', 'tool'], ['schema_version', 'kind', 'tool'])
    """
    return {"schema_version": version, **({} if kind is None else {"kind": kind}), "tool": dict(TOOL)}
