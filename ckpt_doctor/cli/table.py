"""The commands there are."""

from __future__ import annotations

COMMANDS = {
    "inspect": "inspect",
    "ls": "ls",
    "convert": "convert",
    "fix": "fix",
    "verify": "verify",
    "gate": "gate",
    "latest": "latest",
    "lock": "lock",
    "diff": "diff",
    "explain": "explain",
    "rules": "rules",
    "settings": "settings",
}
"""Name of each command to its module in this folder, in the order of the help. The module's ``command`` is run."""
