"""Whether a configuration was written by a PEFT that is newer than the one whose facts are known here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ckpt_doctor.knowledge.peft_types import PEFT_VERSION


def is_newer(settings: Mapping[str, Any]) -> bool:
    """Whether ``peft_version`` of an adapter's configuration is later than ours; ``False`` where it is absent.

    >>> is_newer({"peft_version": "99.0.1.dev0@0a1b2c"}), is_newer({"peft_version": "0.4.0"}), is_newer({})
    (True, False, False)
    """
    version = settings.get("peft_version")
    return isinstance(version, str) and _numbers(version) > _numbers(PEFT_VERSION)


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d{1,9}", version)[:3]]
