"""The command line: options in, text out, nothing decided here."""

from __future__ import annotations


def main() -> None:
    """Entry point of ``ckpt-doctor``; ends the process with one of the documented exit codes."""
    import sys

    try:
        from .root import cli
    except KeyboardInterrupt:
        sys.exit(130)
    cli.main()
