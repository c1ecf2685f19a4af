"""Order of readiness and of stopping, from `depends_on`. Pure.

Everything is started at once; a component *counts* as ready only after those it depends on. Stopping goes the other
way: a component is drained once nothing that depends on it is alive.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from pipeline_orchestrator.component import ComponentSpec


def check(specs: Iterable[ComponentSpec]) -> None:
    """Raises ValueError on a repeated id, an unknown dependency or a cycle, naming it."""
    table: dict[str, tuple[str, ...]] = {}
    for spec in specs:
        if spec.id in table:
            raise ValueError(f"two components are named {spec.id!r}")
        table[spec.id] = spec.depends_on
    for name, needs in table.items():
        for need in needs:
            if need not in table:
                raise ValueError(f"{name!r} depends on {need!r}, which does not exist")
    circle = _waves(table)[1]
    if circle:
        raise ValueError(f"components depend on each other in a circle: {', '.join(circle)}")


def waves(depends_on: Mapping[str, Collection[str]]) -> list[list[str]]:
    """Groups in order of dependency: each depends only on earlier groups.

    Dependencies that are not in the mapping count as met. Within a group the order is that of the names. A circle
    (possible for a moment, while one list of specs replaces another) forms the last group.
    """
    groups, circle = _waves(depends_on)
    return [*groups, circle] if circle else groups


def _waves(depends_on: Mapping[str, Collection[str]]) -> tuple[list[list[str]], list[str]]:
    """Groups, and the names that are left because they need each other."""
    left = {name: set(needs) & depends_on.keys() for name, needs in depends_on.items()}
    groups: list[list[str]] = []
    while left:
        free = sorted(name for name, needs in left.items() if not needs)
        if not free:
            return groups, sorted(left)
        groups.append(free)
        for name in free:
            del left[name]
        for needs in left.values():
            needs.difference_update(free)
    return groups, []


def waits_for(spec: ComponentSpec, wanted: Collection[str], ready: Collection[str]) -> tuple[str, ...]:
    """Those dependencies that are wanted and not ready yet; empty = this component may count as ready."""
    return tuple(need for need in spec.depends_on if need in wanted and need not in ready)


def may_drain(name: str, depends_on: Mapping[str, Collection[str]], alive: Collection[str]) -> bool:
    """Whether nothing alive depends on `name` any more, directly or through others, alive or not.

    Of components in a circle each may drain: none of them could ever be first.
    """
    dependents, front = set[str](), {name}
    while front:
        front = {other for other, needs in depends_on.items() if front & set(needs)} - dependents
        dependents |= front
    return name in dependents or not dependents & set(alive)


def waves_left(depends_on: Mapping[str, Collection[str]], alive: Collection[str]) -> int:
    """How many groups are still to be stopped one after the other."""
    return len(waves({name: needs for name, needs in depends_on.items() if name in alive}))


def drain_budget(remaining_s: float, groups_left: int) -> float:
    """Seconds one group may take: half of what is left (a fair share at least), all of it for the last."""
    if groups_left <= 1:
        return max(0.0, remaining_s)
    return max(0.0, remaining_s / 2, remaining_s / groups_left)
