import subprocess
import sys

import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan

from arriero.client.tracing import traceparent
from tests.unit.client.spans import CONTEXT, Recording


def test_a_recording_span_gives_the_w3c_header() -> None:
    with trace.use_span(Recording(CONTEXT)):
        assert traceparent() == "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize("span", [NonRecordingSpan(CONTEXT), Recording(trace.INVALID_SPAN_CONTEXT)])
def test_a_span_that_does_not_record_or_is_not_valid_gives_none(span: NonRecordingSpan) -> None:
    with trace.use_span(span):
        assert traceparent() is None


def test_where_nobody_traces_opentelemetry_is_not_even_imported() -> None:
    script = (
        "import sys; from arriero.client.tracing import traceparent; "
        "assert traceparent() is None; assert not any(m.startswith('opentelemetry') for m in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
