"""Many customers' stories played at once on one clock.

A scene is a generator: it acts through the control API and yields how long it waits. The player
always takes up the scene that is due next, moving the clock there first.
"""

from __future__ import annotations

import datetime
import heapq
import itertools
from collections.abc import Callable, Generator

from .report import Row
from .world import World

Scene = Generator[datetime.timedelta, None, None]


def days(count: float) -> datetime.timedelta:
    return datetime.timedelta(days=count)


def play(
    world: World,
    scenes: list[Callable[[World], Scene]],
    row: Row,
    until: datetime.timedelta,
    settle: Callable[[], None],
) -> None:
    """Plays all scenes to their ends and the clock to `until` after the start; `settle` comes after every step."""
    control = world.control
    start = control.now()
    order = itertools.count()
    waiting = [(start, next(order), scene.__name__, scene(world)) for scene in scenes]
    heapq.heapify(waiting)
    now = start
    while waiting:
        due, _, name, scene = heapq.heappop(waiting)
        if due > now:
            control.advance_to(due)
            now = due
        try:
            pause = next(scene)
        except StopIteration:
            row.check(True, "")
        except Exception as error:  # noqa: BLE001 - one broken story must not hide the others
            row.check(False, f"{name} on {now:%F}, line {_line(error)}: {error!r}"[:600])
        else:
            heapq.heappush(waiting, (now + pause, next(order), name, scene))
        settle()
    if now < start + until:
        control.advance_to(start + until)
    settle()


def _line(error: BaseException) -> int | None:
    """Where in its story a scene stopped."""
    trace = error.__traceback__.tb_next if error.__traceback__ else None
    return trace.tb_lineno if trace else None
