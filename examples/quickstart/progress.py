"""What the services tell while they work."""

from workflows.events import Event


class Progress(Event):
    """What has just been done."""

    did: str


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
