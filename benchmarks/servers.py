"""Servers under test as processes: started, paused while others are measured, and accounted for."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

_TICKS = os.sysconf("SC_CLK_TCK")
_START_TIMEOUT_S = 180

# Whether servers and load are scheduled before everything else on the machine.
go_first = False


def favour(pid: int) -> None:
    """Schedule a process, and all of its session, before all others; needs to be root.

    Linux first divides time among sessions (sched_autogroup), so `nice` alone wouldn't do.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, -20)
        Path(f"/proc/{pid}/autogroup").write_text("-20")


class ServerFailed(Exception):
    """A server did not start, or gave a wrong answer; the text says which and why."""


class Server:
    """One server and all its child processes.

    Args:
        name: for messages and its log.
        command: what starts it.
        port: where it listens.
        ready: path that answers 200 once it is up.
        environment: added to ours.
        cwd: where it runs.
        log: file for what it prints.
        pausable: whether `pause` may stop it; otherwise it idles.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        port: int,
        ready: str,
        environment: Mapping[str, str],
        cwd: Path,
        log: Path,
        pausable: bool = True,
    ) -> None:
        self.name, self.port, self._ready, self._log = name, port, ready, log
        self._pausable = pausable
        with contextlib.closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                # We would measure whatever was left there by an earlier run.
                raise ServerFailed(f"{name}: something already listens on port {port}")
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **environment},
                cwd=cwd,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def wait_ready(self) -> None:
        """Wait until it answers.

        Raises:
            ServerFailed: it ended, or took longer than three minutes.
        """
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                if get(self.port, self._ready) == 200:
                    if go_first:
                        for pid in self.pids():
                            favour(pid)
                    return
            except OSError:
                pass
            time.sleep(0.2)
        tail = self._log.read_text(errors="replace")[-2000:]
        raise ServerFailed(f"{self.name} did not become ready:\n{tail}")

    def pids(self) -> list[int]:
        """The process and all below it."""
        children: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and (fields := _stat(int(entry.name))):
                children.setdefault(int(fields[1]), []).append(int(entry.name))
        found, left = [], [self._process.pid]
        while left:
            pid = left.pop()
            found.append(pid)
            left += children.get(pid, [])
        return found

    def cpu_s(self) -> float:
        """CPU seconds used so far, by all of it."""
        total = 0.0
        for pid in self.pids():
            if fields := _stat(pid):
                total += (int(fields[11]) + int(fields[12])) / _TICKS
        return total

    def peak_memory_mib(self) -> float:
        """Most resident memory so far: the sum over its processes of each one's own peak."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                    if line.startswith("VmHWM:"):
                        total += int(line.split()[1])
        return total / 1024

    def wait_idle(self, timeout_s: float = 10) -> None:
        """Wait until it has nothing left to do: until it uses at most a tick in 0.05 s."""
        deadline = time.monotonic() + timeout_s
        used = self.cpu_s()
        while time.monotonic() < deadline:
            time.sleep(0.05)
            before, used = used, self.cpu_s()
            if used - before < 2 / _TICKS:
                return

    def pause(self) -> None:
        """Stop it in its tracks, so that it takes nothing from the one being measured."""
        if self._pausable:
            self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after `pause`."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it and all its processes."""
        pids = self.pids()
        self._signal(signal.SIGCONT)
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(3)  # it has nothing to save
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def _signal(self, number: int) -> None:
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def get(port: int, path: str) -> int:
    """Status of a GET request."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as client:
        client.request("GET", path)
        answer = client.getresponse()
        answer.read()
        return answer.status


def send(port: int, raw: bytes, timeout_s: float = 120) -> tuple[int, Mapping[str, str], bytes]:
    """Send a whole request as it is; returns status, headers in lower case, and body."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
        connection.sendall(raw)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        body = answer.read()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, body


def machine_busy_s() -> float:
    """CPU seconds that anything on this machine has used since it started."""
    user, nice, system, _, _, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / _TICKS


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name; empty if the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
