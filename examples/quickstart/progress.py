"""What the services tell while they work."""

from workflows.events import Event


class Progress(Event):
    """What has just been done."""

    did: str
