"""The names under which things are stored, and what a name from outside may be."""

from __future__ import annotations

from arriero.types.errors import InvalidInput
from arriero.types.ids import id_from
from arriero.types.names import LONGEST_NAME, is_name

SERVICES = "services"
SESSIONS = "sessions"
STATES = "states"
TASKS = "tasks"
ITEMS = "items"
LANES = "lanes"
CONTEXTS = "contexts"
WORKERS = "workers"
TIMERS = "timers"
OUTBOX = "outbox"
FINISHED = "finished"
VALUES = "values"
#: Tasks that failed or are dead, by that moment.
DEAD = "dead"
#: Items that have ended and whose children are still to be ended.
SWEEPS = "sweeps"
#: Tasks whose orchestrator has not decided yet, and what the first item is to begin with.
DECISIONS = "decisions"
#: What is written only to see whether anything can be.
PROBES = "probes"


def tasks_of(session_id: str) -> str:
    """The collection that lists a session's tasks, by the moment of their submission."""
    return f"tasks/{session_id}"


def stream_log(task_id: str) -> str:
    return f"stream/{task_id}"


def journal_log(item_id: str) -> str:
    return f"journal/{item_id}"


def item_log(item_id: str) -> str:
    """What became of the item's claims."""
    return f"log/{item_id}"


def misfits(service: str) -> str:
    """The collection of a service's items that wait for a worker of another shape."""
    return f"misfits/{service}"


def misfit(shape: str, item_id: str) -> str:
    return f"{shape}/{item_id}"


def ready(service: str) -> str:
    return f"ready/{service}"


def held(worker_id: str) -> str:
    return f"held/{worker_id}"


def children(item_id: str) -> str:
    """The collection of an item's children."""
    return f"children/{item_id}"


def inbox(item_id: str) -> str:
    """The collection of the events that were sent to an item, by their number."""
    return f"inbox/{item_id}"


def inbox_keys(item_id: str) -> str:
    """The collection of the idempotency keys under which they were sent."""
    return f"inbox-keys/{item_id}"


def place(number: int) -> str:
    """A number as text that sorts like the number."""
    return f"{number:012d}"


def child_id(task_id: str, parent: str, key: str, generation: int) -> str:
    """The one id of a call of an item, and of its repetitions after a failure."""
    return f"{task_id}/{id_from(f'child of {parent}', f'{generation} {key}')}"


def lane(session_id: str, service: str) -> str:
    """The key of the one order that a session's items for a service keep."""
    return f"{session_id}/{service}"


def lane_queue(lane_key: str) -> str:
    """The collection of a lane's items that wait behind its head."""
    return f"lane/{lane_key}"


def moment(at: float) -> str:
    """A time as text that sorts like the time, in microseconds."""
    return f"{int(at * 1_000_000):017d}"


def seconds(key: str) -> float:
    """The time that a key begins with."""
    return int(key.split("/", 1)[0]) / 1_000_000


def dated_key(at: float, id: str) -> str:
    """The key of an item or a task in a list by time."""
    return f"{moment(at)}/{id}"


def dated(key: str) -> str:
    """The item or task that a dated key names; one that was damaged names perhaps none."""
    return key.partition("/")[2]


def timer_key(at: float, kind: str, item_id: str) -> str:
    return f"{moment(at)}/{kind}/{item_id}"


def check_name(what: str, name: str) -> str:
    """The name itself, when it can be one."""
    if not 0 < len(name) <= LONGEST_NAME:
        raise InvalidInput(f"{what} must have 1 to {LONGEST_NAME} characters")
    if not is_name(name):
        raise InvalidInput(
            f"{what} {name[:40]!r} must be printable, without slashes or outer spaces, and not '.' or '..'"
        )
    return name
