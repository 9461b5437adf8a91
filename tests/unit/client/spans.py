"""A span that records, without an SDK."""

from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

CONTEXT = SpanContext(
    0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, is_remote=False, trace_flags=TraceFlags(1)
)


class Recording(NonRecordingSpan):
    def is_recording(self) -> bool:
        return True
