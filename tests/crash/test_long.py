"""The long run in a short form."""

import pytest

from tests.crash.long import MUST_BE_NONE, long_run


@pytest.mark.timeout(240)
async def test_under_load_nothing_is_lost_done_twice_or_read_twice_while_everything_is_killed() -> None:
    table = await long_run(tasks=500, kills=10, seed=7)
    assert {name: table[name] for name in MUST_BE_NONE} == dict.fromkeys(MUST_BE_NONE, 0)
    assert table["tasks accepted"] == 500
    assert table["SIGKILLs (workers)"] + table["SIGKILLs (control planes)"] >= 5
