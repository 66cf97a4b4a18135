"""Which cases of a table run always, and which in the long suite alone: some of every family run always."""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, Protocol

import pytest


class Named(Protocol):
    @property
    def name(self) -> str: ...


def params(cases: Sequence[Named], most: int, always: Collection[str] = ()) -> list[Any]:
    """The cases as parameters; all but `most` are slow. A family is what stands before the colon of a name.

    The first of each family come first, then the second of each, and so on; those of `always` before all.
    """
    members: Counter[str] = Counter()
    order = []
    for number, case in enumerate(cases):
        family = case.name.partition(":")[0]
        order.append((case.name not in always, members[family], number))
        members[family] += 1
    kept = {number for _, _, number in sorted(order)[:most]}
    marks = [() if number in kept else (pytest.mark.slow,) for number in range(len(cases))]
    return [pytest.param(case, id=case.name, marks=mark) for case, mark in zip(cases, marks, strict=True)]
