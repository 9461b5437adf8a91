"""A real nginx before a server, for tests: started on a free port with files of its own, ended by its pid."""

import asyncio
import os
import shutil
import tempfile
from pathlib import Path
from typing import Self

import pytest

from tests.harness import PATIENCE, answers, free_port

#: Buffers as it does by default, and closes what is silent for too long.
CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/pid;
error_log stderr error;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass {upstream};
            proxy_buffering on;
            proxy_read_timeout {limit}s;
        }}
    }}
}}
"""


def found_nginx() -> str:
    """The program; without it the test is skipped, and in CI it fails."""
    program = shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))
    if program is not None:
        return program
    if os.environ.get("CI") == "true":
        pytest.fail("nginx is not installed, and CI needs it: apt-get install nginx")
    pytest.skip("nginx is not installed")


class Nginx:
    """Passes everything on to ``upstream``, with a limit in seconds on its silence."""

    def __init__(self, upstream: str, limit: int) -> None:
        self._program = found_nginx()
        self._folder = tempfile.TemporaryDirectory(prefix="arriero-nginx-")
        self._port = free_port()
        self._process: asyncio.subprocess.Process | None = None
        self.url = f"http://127.0.0.1:{self._port}"
        folder = self._folder.name
        text = CONFIGURATION.format(folder=folder, port=self._port, upstream=upstream, limit=limit)
        self._file = Path(folder) / "nginx.conf"
        self._file.write_text(text)

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            self._program, "-p", self._folder.name, "-c", str(self._file), "-e", "stderr"
        )
        await answers(self.url)

    async def stop(self) -> None:
        """End it at once, with every connection through it."""
        assert self._process is not None
        self._process.terminate()
        await asyncio.wait_for(self._process.wait(), PATIENCE)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.stop()
        self._folder.cleanup()
