"""Histories, forks, replays and dead tasks through real processes: by HTTP, in each face of the client, at a shell."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from arriero.types.errors import NotEnded, NotFound, NotStopped, UnknownTask
from arriero.types.history import DeadTask, TaskHistory
from arriero.types.tasks import TaskStatus
from tests.harness import Core
from tests.scenarios.faces import NAMES, Face, each, result
from tests.scenarios.flows import Reply
from tests.scenarios.system import Http
from tests.scenarios.test_command_line import error_of, run


@pytest.fixture(params=NAMES)
async def face(request: pytest.FixtureRequest, core: Core, workers: None) -> AsyncIterator[Face]:
    async with Face(request.param, core) as face:
        yield face


@pytest.fixture
async def session(face: Face) -> Any:
    return await face.create()


@pytest.fixture
async def http(core: Core, workers: None) -> AsyncIterator[Http]:
    async with Http(core.url) as http:
        yield http


async def ended(session: Any, task: str) -> None:
    async for entry in each(session.follow(task)):
        if entry.is_end:
            return


async def failed(session: Any) -> str:
    task = await result(session.run_nowait("failing", text="gone"))
    await ended(session, task)
    return task


async def answered(session: Any, task: str, text: str) -> None:
    async for entry in each(session.follow(task)):
        if entry.type == "Question":
            break
    await result(session.send_event("asking", task, Reply(text=text)))
    await ended(session, task)


class Dead:
    """The list of dead tasks in either kind of client."""

    def __init__(self, face: Face) -> None:
        self._face = face

    async def list(self, service: str) -> list[DeadTask]:
        client = self._face.client
        return await result(client.core.dead.list(service) if self._face.is_sdk else client.list_dead(service))

    async def get(self, task: str) -> DeadTask:
        client = self._face.client
        return await result(client.core.dead.get(task) if self._face.is_sdk else client.get_dead(task))

    async def replay(self, task: str) -> str:
        client = self._face.client
        return await result(client.core.dead.replay(task) if self._face.is_sdk else client.replay_dead(task))

    async def drop(self, task: str) -> None:
        client = self._face.client
        await result(client.core.dead.drop(task) if self._face.is_sdk else client.drop_dead(task))


async def test_a_history_tells_of_steps_events_and_the_error(session: Any) -> None:
    task = await failed(session)
    found = await result(session.history(task))
    assert isinstance(found, TaskHistory)
    kinds = [entry.kind for entry in found.entries]
    assert kinds[:3] + kinds[5:] == ["submitted", "ordered", "claimed", "step_failed", "item_ended", "ended"]
    assert set(kinds[3:5]) == {"step", "event"}
    [step] = [entry for entry in found.entries if entry.kind == "step"]
    assert (step.step, step.finished, step.result) == ("begin", 1, "Middle")
    assert found.error is not None
    assert (found.error.type, found.error.details["step"]) == ("LookupError", "explode")
    [failure] = [entry for entry in found.entries if entry.kind == "step_failed"]
    assert (failure.step, failure.error) == ("explode", found.error)
    [event] = [entry for entry in (await result(session.history(task, data=True))).entries if entry.kind == "event"]
    assert (event.type, event.data) == ("Progress", {"number": 1, "note": ""})


@pytest.mark.shows("end.copies", "end.fork")
async def test_a_task_is_forked_behind_a_step_and_replayed(session: Any) -> None:
    task = await result(session.run_nowait("asking"))
    with pytest.raises(NotEnded):
        await result(session.replay(task))
    with pytest.raises(NotStopped):
        await result(session.resume(task))
    with pytest.raises(NotStopped):
        await result(session.restart(task))
    await answered(session, task, "red")
    fork = await result(session.fork(task, after_step="ask"))
    await answered(session, fork, "blue")
    assert (await result(session.get_task_result(fork))).value == "it is blue"
    status = await result(session.status(fork))
    assert (status.forked_from, status.replay_of) == (task, None)
    replay = await result(session.replay(task))
    await answered(session, replay, "green")
    assert (await result(session.status(replay))).replay_of == task
    with pytest.raises(NotFound, match="those that have: 1 ask"):
        await result(session.fork(task, after_step=2))


async def test_the_same_key_makes_one_replay_and_one_fork(session: Any) -> None:
    task = await failed(session)
    first = await result(session.replay(task, idempotency_key="k"))
    assert await result(session.replay(task, idempotency_key="k")) == first
    fork = await result(session.fork(task, after_step=1, idempotency_key="k"))
    assert await result(session.fork(task, after_step=1, idempotency_key="k")) == fork != first


@pytest.mark.shows("end.listed")
async def test_dead_tasks_are_listed_shown_replayed_and_dropped(face: Face, session: Any) -> None:
    dead = Dead(face)
    one, two = await failed(session), await failed(session)
    listed = {task.task_id: task for task in await dead.list("failing")}
    assert {one, two} <= set(listed)
    assert not {one, two} & {entry.task_id for entry in await dead.list("greeting")}
    shown = await dead.get(one)
    assert shown == listed[one]
    assert shown.error is not None
    assert (shown.status, shown.attempts, shown.error.message) == (TaskStatus.FAILED, 1, "gone")
    again = await dead.replay(one)
    await ended(session, again)
    assert (await result(session.status(again))).replay_of == one
    await dead.drop(two)
    left = {task.task_id for task in await dead.list("failing")}
    assert again in left
    assert not {one, two} & left
    with pytest.raises(UnknownTask):
        await dead.get(one)


@pytest.mark.parametrize("face", NAMES[:2], indirect=True)
async def test_a_task_is_found_by_its_id_alone(face: Face, session: Any) -> None:
    task = await failed(session)
    found = await result(face.client.find_task(task))
    assert (found.task_id, found.session_id) == (task, session.session_id)
    with pytest.raises(UnknownTask):
        await result(face.client.find_task("nothing"))


# HTTP


async def test_wrong_requests_are_refused(http: Http) -> None:
    _, session = await http.post("/sessions/create")
    _, body = await http.post(f"/sessions/{session}/tasks?wait=20", {"input": "{}", "service_id": "failing"})
    task = f"/sessions/{session}/tasks/{body['task_id']}"
    assert (await http.get(f"/tasks/{body['task_id']}"))[1]["session_id"] == session
    for path, wrong in (
        ("fork", {}),
        ("fork", {"after_step": 0}),
        ("fork", {"after_step": 1.5}),
        ("fork", {"after_step": []}),
        ("fork", {"after_step": 1, "session_id": ""}),
        ("replay", {"session_id": 5}),
        ("replay", []),
    ):
        assert (await http.post(f"{task}/{path}", wrong))[0] == 422, (path, wrong)
    for path in ("history?limit=0", "history?after=-1", "history?data=perhaps"):
        assert (await http.get(f"{task}/{path}"))[0] == 422, path
    assert (await http.post(f"{task}/fork", {"after_step": "never"}))[0] == 404
    assert (await http.post(f"{task}/fork", {"after_step": 1.0}))[0] == 200
    assert (await http.get("/dead?after=%00"))[0] == 422
    assert (await http.post(f"{task}/replay", {"session_id": "nowhere"}))[0] == 404
    for path in ("fork", "replay", "resume", "restart"):
        assert (await http.post(f"/sessions/{session}/tasks/nothing/{path}", {"after_step": 1}))[0] == 404
    assert (await http.post(f"{task}/resume"))[0] == 409
    assert (await http.get("/dead?limit=0"))[0] == 422
    assert (await http.post("/dead/nothing/replay"))[0] == 404


async def test_pages_of_a_history_follow_one_another(http: Http) -> None:
    _, session = await http.post("/sessions/create")
    _, body = await http.post(f"/sessions/{session}/tasks?wait=20", {"input": "{}", "service_id": "counting"})
    path = f"/sessions/{session}/tasks/{body['task_id']}/history?limit=4"
    _, first = await http.get(path)
    _, second = await http.get(f"{path}&after={first['following']}")
    assert [entry["number"] for entry in first["entries"] + second["entries"]] == list(range(1, 9))
    assert [item["service"] for item in first["items"]] == ["counting"]
    assert "items" not in second


# The command line


async def test_the_command_line_prints_a_history_also_as_json(core: Core, http: Http) -> None:
    _, session = await http.post("/sessions/create")
    _, body = await http.post(f"/sessions/{session}/tasks?wait=20", {"input": "{}", "service_id": "failing"})
    where = ("--control-plane", core.url)
    code, said = await run("history", body["task_id"], *where)
    assert code == 0, said
    assert "failing: failed; attempts: 1" in said
    assert "LookupError in step explode: no such thing" in said
    assert [line for line in said.splitlines() if "step 1 begin" in line and "gave Middle after" in line]
    code, said = await run("history", body["task_id"], "--session", session, "--data", "--json", *where)
    assert code == 0
    told = json.loads(said)
    assert [entry["data"] for entry in told["entries"] if entry["kind"] == "event"] == [{"number": 1, "note": ""}]
    code, said = await run("history", "nothing", *where)
    assert code == 1
    assert "there is no task 'nothing'" in error_of(said)


async def test_the_command_line_lists_shows_replays_and_drops_dead_tasks(core: Core, http: Http) -> None:
    _, session = await http.post("/sessions/create")
    _, body = await http.post(f"/sessions/{session}/tasks?wait=20", {"input": "{}", "service_id": "failing"})
    task, where = body["task_id"], ("--control-plane", core.url)
    code, said = await run("dead", "list", "--service", "failing", *where)
    assert code == 0, said
    [line] = [line for line in said.splitlines() if task in line]
    assert {"failing", "failed", "LookupError"} <= set(line.replace(":", "").split())
    code, said = await run("dead", "show", task, "--json", *where)
    assert (code, json.loads(said)["error"]["message"]) == (0, "no such thing")
    code, new = await run("dead", "replay", task, *where)
    assert code == 0
    assert (await http.get(f"/tasks/{new.strip()}"))[1]["replay_of"] == task
    await http.get(f"/sessions/{session}/tasks/{new.strip()}/result?wait=20")
    assert await run("dead", "drop", new.strip(), *where) == (0, "")
    code, said = await run("dead", "list", "--json", *where)
    assert not {task, new.strip()} & {entry["task_id"] for entry in json.loads(said)}
    code, said = await run("dead", "show", task, *where)
    assert (code, "not in the list" in error_of(said)) == (1, True)
