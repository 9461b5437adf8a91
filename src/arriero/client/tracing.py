"""The trace that a request belongs to, where one is recorded."""

from __future__ import annotations

import sys


def traceparent() -> str | None:
    """The W3C header of the span that is recording now. Where nobody imported OpenTelemetry, nothing records."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    span = trace.get_current_span()
    if not span.is_recording():
        return None
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}" if context.is_valid else None
