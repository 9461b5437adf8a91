"""Asking the person at the terminal, without holding up anything else."""

import asyncio
import os

STDIN = 0
YES = (b"y", b"yes")
LONGEST = 1_000
#: Seconds within which standard input that is no terminal has to say something.
PATIENCE = 5.0


async def says_yes() -> bool:
    """Whether the next line of standard input begins with yes. Nothing there means no."""
    try:
        async with asyncio.timeout(None if os.isatty(STDIN) else PATIENCE):
            return (await _line()).strip().lower() in YES
    except (OSError, TimeoutError):
        return False


async def _line() -> bytes:
    said = b""
    while not said.endswith(b"\n") and len(said) < LONGEST:
        await _readable()
        read = os.read(STDIN, 1)  # what follows the line is not ours
        if not read:
            break
        said += read
    return said


async def _readable() -> None:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    try:
        loop.add_reader(STDIN, readable.set)
    except PermissionError:  # a file, which can always be read
        return
    try:
        await readable.wait()
    finally:
        loop.remove_reader(STDIN)
