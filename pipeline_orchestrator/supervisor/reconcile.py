"""Difference between the specs that run and the specs that are wanted. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from pipeline_orchestrator.component import ComponentSpec


@dataclass(frozen=True, slots=True)
class Changes:
    """Ids to start, to stop and to keep; `reconfigured` differ in their config only and may take it while running."""

    start: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    reconfigured: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()

    @property
    def nothing(self) -> bool:
        """Whether both lists mean the same components."""
        return not (self.start or self.stop or self.reconfigured or self.replaced)


def diff(actual: Mapping[str, ComponentSpec], wanted: Iterable[ComponentSpec]) -> Changes:
    """What has to happen so that `wanted` runs. Equal specs mean the same component."""
    table = {spec.id: spec for spec in wanted}
    start, keep, reconfigured, replaced = [], [], [], []
    for name, spec in table.items():
        old = actual.get(name)
        if old is None:
            start.append(name)
        elif old == spec:
            keep.append(name)
        elif replace(old, config=spec.config) == spec:
            reconfigured.append(name)
        else:
            replaced.append(name)
    stop = tuple(name for name in actual if name not in table)
    return Changes(tuple(start), stop, tuple(keep), tuple(reconfigured), tuple(replaced))
