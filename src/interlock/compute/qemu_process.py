"""One QEMU process per guest and host: how it is started, and how any later process finds it again.

A record is written before the process is started and again when its pid is known. Whoever finds a record without a pid
looks for the process whose command line names the record's socket, so a driver that dies at any moment leaves no QEMU
that its successor cannot see. A pid counts only together with the time at which that process was started.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from interlock.compute.hypervisor import Guest
from interlock.compute.records import read_record, write_record

__all__ = ["Place", "QemuProcess", "said", "socket_directory"]

_SOCKET_PATH_LIMIT_BYTES = 107
_SOCKET_NAME_BYTES = 16
_LINES = 3
"""As many as QEMU needs to say why it did not take a guest."""


@dataclass(frozen=True, slots=True)
class QemuProcess:
    """What is recorded of a QEMU: who it is for, its pid and start time (clock ticks since boot), and its files."""

    driver: str
    observer: str
    console: str
    log: str
    migration: str | None = None
    uri: str | None = None
    disk: str = ""
    pid: int | None = None
    started: int | None = None

    def start(self, binary: str, guest: Guest, disk: Path) -> QemuProcess:
        """Start it, out of reach of whatever ends the caller; return it with its pid. Raises OSError."""
        command = [binary, *self._arguments(guest, disk)]
        log = (os.POSIX_SPAWN_OPEN, 1, self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        actions = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), log, (os.POSIX_SPAWN_DUP2, 1, 2)]
        pid = os.posix_spawnp(binary, command, os.environ, file_actions=actions, setsid=True)
        return replace(self, pid=pid, started=_started(pid))

    def _arguments(self, guest: Guest, disk: Path) -> list[str]:
        # Never kvm: where nested virtualisation is broken it starts, and the guest never executes an instruction.
        arguments = ["-nodefaults", "-no-user-config", "-display", "none", "-machine", "pc,accel=tcg"]
        arguments += ["-m", str(guest.memory_mib), "-smp", str(guest.cpus), "-serial", f"file:{_escaped(self.console)}"]
        for path in (self.driver, self.observer):
            arguments += ["-qmp", f"unix:{_escaped(path)},server=on,wait=off"]
        file = f"file.driver=file,file.filename={_escaped(str(disk))}"
        arguments += ["-blockdev", f"driver={guest.disk},node-name=d0,{file}", "-device", "ide-hd,drive=d0"]
        if self.migration is not None:
            arguments += ["-incoming", "tcp:127.0.0.1:0"]
        return arguments

    def alive(self) -> bool:
        """Whether this very process lives (one that ended and was not yet waited for does not)."""
        return self.pid is not None and self.started is not None and _started(self.pid) == self.started

    def kill(self) -> None:
        """Send it SIGKILL, if it lives. A pid that was given to somebody else in between is left alone."""
        if self.pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(self.pid)
            try:
                if self.alive():
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
            finally:
                os.close(handle)

    def has_printed(self) -> bool:
        """Whether its guest has said anything."""
        return Path(self.console).stat().st_size > 0

    def last_words(self, lines: int = 1) -> str:
        """Return the last lines of its log, or an empty string."""
        with contextlib.suppress(FileNotFoundError):
            return "; ".join(Path(self.log).read_text(errors="replace").strip().splitlines()[-lines:])
        return ""


class Place:
    """The files of one guest on one host."""

    def __init__(self, root: Path, sockets: Path, host: str, instance: str) -> None:
        self.host, self.instance = host, instance
        self.directory = root / "hosts" / host / instance
        self.lock, self.fence = self.directory / "lock", self.directory / "fence.json"
        self._record, self._sockets = self.directory / "qemu.json", sockets

    def recorded(self) -> QemuProcess | None:
        """Return the recorded process, dead or alive."""
        fields = read_record(self._record)
        if fields is None:
            return None
        process = QemuProcess(**fields)
        if process.pid is None and (pid := _find(process.driver)) is not None:
            return replace(process, pid=pid, started=_started(pid))
        return process

    def living(self) -> QemuProcess | None:
        """Return the process, if it lives."""
        process = self.recorded()
        return process if process is not None and process.alive() else None

    def fresh(self, migration: str | None) -> QemuProcess:
        """Record and return a process about to be started, with files of its own."""
        number = 1 + max((int(path.stem.rpartition("-")[2]) for path in self.consoles()), default=0)
        name = hashlib.sha256(f"{self.host}/{self.instance}/{number}".encode()).hexdigest()[:12]
        console, log = (str(self.directory / f"{kind}-{number}.log") for kind in ("console", "qemu"))
        process = QemuProcess(f"{self._sockets / name}.d", f"{self._sockets / name}.o", console, log, migration)
        # Taken now, so that the next one gets another number even if this one never starts.
        Path(console).touch(mode=0o600)
        self.save(process)
        return process

    def consoles(self) -> list[Path]:
        """Return the serial logs of all processes that this place has had."""
        return sorted(self.directory.glob("console-*.log"))

    def save(self, process: QemuProcess) -> None:
        """Replace the record."""
        write_record(self._record, asdict(process))

    def drop(self) -> None:
        """Forget the process and remove its sockets; what it printed stays."""
        process = self.recorded()
        if process is not None:
            for path in (process.driver, process.observer):
                Path(path).unlink(missing_ok=True)
            self._record.unlink()


def said(places: Iterable[Place]) -> list[str]:
    """Return what those have to say that were to take a guest."""
    found = [(place.host, place.recorded()) for place in places]
    words = [(host, process.last_words(_LINES)) for host, process in found if process and process.migration]
    return [f"{host} said: {text}" for host, text in words if text]


def socket_directory(root: Path) -> Path:
    """Return a directory for sockets, of this user alone: under ``root``, or elsewhere where that name is too long.

    Raises PermissionError when somebody else made the directory first.
    """
    near = root / "run"
    directory = near
    if len(os.fsencode(near)) + _SOCKET_NAME_BYTES > _SOCKET_PATH_LIMIT_BYTES:
        short = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
        directory = short / f"interlock-{os.getuid()}-{hashlib.sha256(os.fsencode(root)).hexdigest()[:12]}"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = directory.lstat()
    if found.st_uid != os.getuid():
        raise PermissionError(f"{directory} belongs to user {found.st_uid}: remove it, or set XDG_RUNTIME_DIR")
    return directory


def _escaped(path: str) -> str:
    # QEMU splits its options at commas; a doubled comma is a comma.
    return path.replace(",", ",,")


def _started(pid: int) -> int | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    if fields[0] in "ZX" and _gone(pid):
        return None
    return int(fields[19])


def _gone(pid: int) -> bool:
    """Whether an ended process holds nothing any more: its first thread may end before others that hold its files."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        # Not our child: somebody else reaps it.
        with contextlib.suppress(FileNotFoundError):
            return len(list(Path(f"/proc/{pid}/task").iterdir())) <= 1
        return True


def _find(socket: str) -> int | None:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if f"unix:{_escaped(socket)},server=on".encode() in (entry / "cmdline").read_bytes():
                    return int(entry.name)
    return None
