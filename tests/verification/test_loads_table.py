"""The table of loads has an entry for every kind of checkpoint."""

from __future__ import annotations

import pytest

from ckpt_doctor.core.layout import Layout
from ckpt_doctor.layouts.registry import LAYOUTS, kind_named
from ckpt_doctor.verification.model.loads import LOADS


@pytest.mark.parametrize("kind", [*map(kind_named, LAYOUTS), Layout("a-teams-own")], ids=lambda kind: kind.name)
def test_every_kind_has_an_entry(kind: Layout) -> None:
    assert kind.loads in LOADS


def test_every_name_of_a_loader_is_of_one_entry() -> None:
    names = [name for load in LOADS.values() for name in load.loaders]
    assert sorted(names) == ["memgen-fork", "memgen-upstream"]
    assert all(load.title for load in LOADS.values() if load.loaders)
