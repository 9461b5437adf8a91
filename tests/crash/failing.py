"""``arriero`` in a process that kills itself at a point, which the environment names; and workflows to do it to.

    FAILPOINT="before commit 7" python -m tests.crash.failing core ...

The points are each commit of the store, and each frame of a link that is sent or received. The word ``before`` or
``after`` says when, the number which one since the start of the process.
"""

from __future__ import annotations

import functools
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

from arriero import Nested

HERE = Path(__file__)
WHEN, WHAT = ("before", "after"), ("commit", "send", "receive")


class Failpoint:
    """Counts to the one at which the process ends."""

    def __init__(self, point: str) -> None:
        self.when, self.what, number = point.split()
        self._left = int(number)
        self._lock = threading.Lock()  # the store has a thread of its own

    def reached(self, when: str, what: str) -> None:
        if (when, what) != (self.when, self.what):
            return
        with self._lock:
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)

    def at_calls(self, owner: type, name: str, what: str) -> None:
        """Have each call of a function be a point."""
        function = getattr(owner, name)

        @functools.wraps(function)
        def called(*given: Any, **more: Any) -> Any:
            self.reached("before", what)
            answer = function(*given, **more)
            self.reached("after", what)
            return answer

        setattr(owner, name, called)

    def at_awaits(self, owner: type, name: str, what: str) -> None:
        """The same for a coroutine function."""
        function: Callable[..., Any] = getattr(owner, name)

        @functools.wraps(function)
        async def awaited(*given: Any, **more: Any) -> Any:
            self.reached("before", what)
            answer = await function(*given, **more)
            self.reached("after", what)
            return answer

        setattr(owner, name, awaited)


def arm(point: str) -> None:
    import aiohttp
    from starlette.websockets import WebSocket

    from arriero.state_stores.database import Database

    failpoint = Failpoint(point)
    failpoint.at_calls(Database, "commit", "commit")
    for socket in (aiohttp.ClientWebSocketResponse, WebSocket):
        failpoint.at_awaits(socket, "send_bytes", "send")
        failpoint.at_awaits(socket, "receive", "receive")


def begins(task: str, number: int) -> None:
    """One line outside, written at once."""
    with Path(os.environ["EFFECTS"]).open("a") as file:
        file.write(f"{task} {number}\n")


class Next(Event):
    task: str
    number: int


class Sure(InputRequiredEvent):
    prefix: str


class Word(HumanResponseEvent):
    task: str
    word: str


class Whole(Workflow):
    """A child, a stream, a state, a question."""

    @step
    async def begin(self, ctx: Context, ev: StartEvent, double: Annotated[Workflow, Nested()]) -> Next:
        begins(ev.task, 0)
        number: Any = await double.run(number=21)
        await ctx.store.set("doubled", number)
        return Next(task=ev.task, number=number)

    @step
    async def ask(self, ctx: Context, ev: Next) -> Sure:
        begins(ev.task, 1)
        ctx.write_event_to_stream(ev)
        return Sure(prefix="which word?")

    @step
    async def end(self, ctx: Context, ev: Word) -> StopEvent:
        begins(ev.task, 2)
        return StopEvent(result=f"{ev.word} {await ctx.store.get('doubled')}")


def double(number: int) -> int:
    return 2 * number


if __name__ == "__main__":
    if os.environ.get("FAILPOINT"):
        arm(os.environ["FAILPOINT"])
    from arriero.cli.main import main

    main()
