"""Names, and who is alive on this machine."""

from __future__ import annotations

import os
import subprocess
import sys

from interlock.runtime.clock import SystemClock, is_gone, new_id, process_identity, session_name


def test_ids_sort_by_the_time_of_their_making_and_differ() -> None:
    ids = [new_id() for _ in range(1_000)]
    assert len(set(ids)) == 1_000 and {len(one) for one in ids} == {18}
    assert [one[:8] for one in ids] == sorted(one[:8] for one in ids)
    assert session_name() != session_name() and str(os.getpid()) in session_name()
    assert SystemClock().now() > 1.6e9


def test_a_process_is_gone_when_it_has_ended_and_not_before() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = process_identity(child.pid)
    try:
        assert identity and not is_gone(identity)
    finally:
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        zombie = is_gone(identity)
        child.communicate()
    assert zombie, "a process that nobody has waited for yet has ended all the same"
    assert is_gone(identity)


def test_of_others_nothing_is_claimed() -> None:
    place, pid, start = process_identity().split("/")
    assert not is_gone(f"another-boot/{pid}/{start}")
    assert not is_gone("") and not is_gone("nonsense") and not is_gone(f"{place}/x/1")
    assert is_gone(f"{place}/{pid}/1"), "the number was used again by a later process"
