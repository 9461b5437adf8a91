"""What users and backends test with.

:class:`Harness` runs one's own workflows in one event loop, without waiting; :func:`crash_test` kills what runs them
after every write; :func:`simulate` has everything go wrong in the system itself; ``arriero.testing.queues`` and
``arriero.testing.stores`` hold the contracts of the two ports.
"""

from arriero.testing.crashing import CrashReport, crash_test
from arriero.testing.harness import Harness, HarnessTask
from arriero.testing.simulation import History, simulate
from arriero.testing.virtual_time import VirtualTime

__all__ = ["CrashReport", "Harness", "HarnessTask", "History", "VirtualTime", "crash_test", "simulate"]
