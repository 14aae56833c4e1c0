"""What all tests share: real databases; real QEMU where it is installed, demanded where `--require-qemu` is given."""

from __future__ import annotations

import shutil

import pytest

from tests.databases import mariadb, mariadb_url, postgresql, postgresql_url, sqlite

__all__ = ["mariadb", "mariadb_url", "postgresql", "postgresql_url", "sqlite"]  # fixtures for all tests

QEMU = "qemu-system-x86_64"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-qemu",
        action="store_true",
        help=f"fail the tests marked qemu, instead of skipping them, without {QEMU}",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "qemu: runs real QEMU processes")
    config.addinivalue_line("markers", "slow: takes more than a few seconds")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("qemu") is None:
        return
    lacking = [program for program in (QEMU, "qemu-img") if shutil.which(program) is None]
    if lacking:
        reason = f"{' and '.join(lacking)} not found: apt-get install qemu-system-x86 qemu-utils"
        if item.config.getoption("--require-qemu"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
