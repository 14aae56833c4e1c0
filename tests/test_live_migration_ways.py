"""Every way of the live migration's machine, on the simulated hypervisor in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from interlock import NotPossible
from interlock.compute.fake_hypervisor import FakeHypervisor, FakeWorld
from interlock.compute.hypervisor import Guest, GuestLost, RunState
from interlock.compute.live_migration import LiveMigration, live_migration
from interlock.testing import Kit, KitOperation, Way, collecting
from tests.test_live_migration import GUEST, LOCAL, SLOW, A, B


class Hosts:
    """A guest on the first of two simulated hosts, and a kit that moves it with the real actions."""

    def __init__(self, guest: Guest = GUEST) -> None:
        self.world = FakeWorld()
        self.fake = FakeHypervisor(self.world, (A, B), clock=lambda: self.kit.now)
        self.kit = Kit(live_migration(self.fake))
        asyncio.run(self.fake.boot(guest, A))

    def move(
        self, bytes_per_second: int | None = None, source: str = A, destination: str = B, postcopy: bool = False
    ) -> KitOperation:
        data = {
            "source": source,
            "destination": destination,
            "bytes_per_second": bytes_per_second,
            "postcopy": postcopy,
        }
        return self.kit.start(instance="vm-1", **data)

    def slowly(self) -> KitOperation:
        """Begin a move, and return in the middle of its copy."""
        move = self.move(SLOW)
        self.kit.advance("500ms")
        move.expect(status="running", state="copying")
        return move

    def inject(self, verb: str, times: int) -> None:
        asyncio.run(self.fake.inject(verb, times=times))

    def ended(self, move: KitOperation, status: str, state: str, undone: Sequence[str], host: str = A) -> None:
        """Assert how a move has ended, and that the guest runs on one host and nothing of it is on the other."""
        self.kit.finish(move, within="2h")
        assert (move.status, move.state, move.undone) == (status, state, undone), move.journal
        there = {name: process.state for name, process in self.world.living("vm-1").items()}
        assert there == {host: RunState.RUNNING}, move.journal


def moved(hosts: Hosts) -> None:
    hosts.ended(hosts.move(), "succeeded", "completed", [], B)


def not_there(hosts: Hosts) -> None:
    hosts.ended(hosts.move(source=B, destination=A), "failed", "refused", [])


def forced(hosts: Hosts) -> None:
    move = hosts.move(1 << 20)
    hosts.kit.advance("1s")
    move.signal("force")
    hosts.ended(move, "succeeded", "completed", [], B)


def forced_at_once(hosts: Hosts) -> None:
    hosts.kit.stub("copying", hangs=True)
    move = hosts.move(1 << 20)
    move.signal("force")
    hosts.ended(move, "succeeded", "completed", [], B)


def forcing(hosts: Hosts) -> KitOperation:
    """Begin a move, force it, and return while that is under way."""
    hosts.kit.stub("forcing", hangs=True)
    move = hosts.slowly()
    move.signal("force")
    move.expect(status="running", state="forcing")
    return move


def aborted_when_forced(hosts: Hosts) -> None:
    move = forcing(hosts)
    move.signal("abort")
    hosts.ended(move, "cancelled", "cancelled", ["copying", "preparing"])


def cancelled_when_forced(hosts: Hosts) -> None:
    move = forcing(hosts)
    move.cancel()
    hosts.ended(move, "cancelled", "cancelled", ["copying", "preparing"])


def forcing_falls_silent(hosts: Hosts) -> None:
    hosts.ended(forcing(hosts), "failed", "failed", ["copying", "preparing"])


def forced_to_a_destination_that_died(hosts: Hosts) -> None:
    hosts.kit.stub("copying", hangs=True)
    move = hosts.move(1 << 20)
    assert asyncio.run(hosts.fake.kill("vm-1", B))
    move.signal("force")
    hosts.ended(move, "failed", "failed", ["copying", "preparing"])


def pulled_at_once(hosts: Hosts) -> None:
    hosts.kit.stub("copying", hangs=True)
    move = hosts.move(1 << 20, postcopy=True)
    move.signal("postcopy")
    hosts.ended(move, "succeeded", "completed", [], B)


def pulled(hosts: Hosts) -> None:
    move = hosts.move(1 << 20, postcopy=True)
    hosts.kit.advance("1s")
    move.signal("postcopy")
    move.expect(status="running", state="pulling")
    assert hosts.world.living("vm-1")[A].state == RunState.FEEDING
    hosts.ended(move, "succeeded", "completed", [], B)
    assert move.attempts("pulling") == 1


def pulled_where_it_may_not(hosts: Hosts) -> None:
    move = hosts.move(1 << 20)
    hosts.kit.advance("1s")
    move.signal("postcopy")
    hosts.ended(move, "succeeded", "completed", [], B)
    assert move.attempts("pulling") == 0


def aborted_when_checked(hosts: Hosts) -> None:
    hosts.kit.stub("checking", hangs=True)
    move = hosts.move()
    move.signal("abort")
    hosts.ended(move, "cancelled", "cancelled", [])


def aborted_when_prepared(hosts: Hosts) -> None:
    hosts.kit.stub("preparing", hangs=True)
    move = hosts.move()
    move.signal("abort")
    hosts.ended(move, "cancelled", "cancelled", ["preparing"])


def aborted(hosts: Hosts) -> None:
    move = hosts.slowly()
    move.signal("abort")
    hosts.ended(move, "cancelled", "cancelled", ["copying", "preparing"])


def unreachable_when_checked(hosts: Hosts) -> None:
    hosts.inject("check", 3)
    hosts.ended(hosts.move(), "failed", "failed", [])


def unreachable_when_prepared(hosts: Hosts) -> None:
    hosts.inject("prepare", 3)
    hosts.ended(hosts.move(), "failed", "failed", ["preparing"])


def destination_dies(hosts: Hosts) -> None:
    move = hosts.slowly()
    assert asyncio.run(hosts.fake.kill("vm-1", B))
    hosts.ended(move, "failed", "failed", ["copying", "preparing"])


def check_takes_too_long(hosts: Hosts) -> None:
    hosts.kit.stub("checking", hangs=True)
    hosts.ended(hosts.move(), "failed", "failed", [])


def preparing_takes_too_long(hosts: Hosts) -> None:
    hosts.kit.stub("preparing", hangs=True)
    hosts.ended(hosts.move(), "failed", "failed", ["preparing"])


def copy_falls_silent(hosts: Hosts) -> None:
    hosts.kit.stub("copying", hangs=True)
    hosts.ended(hosts.move(), "failed", "failed", ["copying", "preparing"])


def cancelled_when_checked(hosts: Hosts) -> None:
    hosts.kit.stub("checking", hangs=True)
    move = hosts.move()
    move.cancel()
    hosts.ended(move, "cancelled", "cancelled", [])


def cancelled_when_prepared(hosts: Hosts) -> None:
    hosts.kit.stub("preparing", hangs=True)
    move = hosts.move()
    move.cancel()
    hosts.ended(move, "cancelled", "cancelled", ["preparing"])


def cancelled_in_the_copy(hosts: Hosts) -> None:
    move = hosts.slowly()
    move.cancel()
    hosts.ended(move, "cancelled", "cancelled", ["copying", "preparing"])


def carried(hosts: Hosts) -> None:
    hosts = Hosts(LOCAL)
    hosts.ended(hosts.move(), "succeeded", "completed", [], B)
    assert [*hosts.world.disks] == ["host-b/vm-1"]


def mirror_breaks(hosts: Hosts) -> None:
    hosts, move = mirroring()
    assert asyncio.run(hosts.fake.kill("vm-1", B))
    hosts.ended(move, "failed", "failed", ["mirroring", "preparing"])
    assert [*hosts.world.disks] == ["host-a/vm-1"]


def mirror_falls_silent(hosts: Hosts) -> None:
    hosts = Hosts(LOCAL)
    hosts.kit.stub("mirroring", hangs=True)
    hosts.ended(hosts.move(), "failed", "failed", ["mirroring", "preparing"])


def aborted_when_mirrored(hosts: Hosts) -> None:
    hosts, move = mirroring()
    move.signal("abort")
    hosts.ended(move, "cancelled", "cancelled", ["mirroring", "preparing"])
    assert [*hosts.world.disks] == ["host-a/vm-1"]


def cancelled_when_mirrored(hosts: Hosts) -> None:
    hosts, move = mirroring()
    move.cancel()
    hosts.ended(move, "cancelled", "cancelled", ["mirroring", "preparing"])


def mirroring() -> tuple[Hosts, KitOperation]:
    """Begin to move a guest whose disk is local, and return in the middle of its copy."""
    hosts = Hosts(LOCAL)
    move = hosts.move(128 << 10)
    hosts.kit.advance("1s")
    move.expect(status="running", state="mirroring")
    return hosts, move


STORIES = [
    moved, not_there, forced, pulled, pulled_where_it_may_not, aborted_when_checked, aborted_when_prepared, aborted,
    unreachable_when_checked,
    unreachable_when_prepared, destination_dies, check_takes_too_long, preparing_takes_too_long, copy_falls_silent,
    cancelled_when_checked, cancelled_when_prepared, cancelled_in_the_copy,
    forced_at_once, aborted_when_forced, cancelled_when_forced, forcing_falls_silent, forced_to_a_destination_that_died, pulled_at_once,
    carried, mirror_breaks, mirror_falls_silent, aborted_when_mirrored, cancelled_when_mirrored,
]  # fmt: skip


def told(stories: Sequence[Callable[[Hosts], None]]) -> tuple[Way, ...]:
    """Play stories; return the ways of the machine that none of them took."""
    with collecting() as coverage:
        for story in stories:
            story(Hosts())
    return coverage.missing(LiveMigration)


def test_every_way_of_the_machine_is_taken() -> None:
    """The gate: outcomes, timeouts, rollbacks and cancels. Who adds a way to the machine adds its story here."""
    missing = told(STORIES)
    assert not missing, "no story takes " + ", ".join(map(str, missing))


@pytest.mark.parametrize(
    ("left_out", "way"),
    [
        (aborted_when_forced, "forcing -> cancelled (abort)"),
        (copy_falls_silent, "copying -> failed (timeout)"),
        (cancelled_when_prepared, "preparing -> cancelled (cancel)"),
    ],
)
def test_the_gate_names_a_way_that_is_not_taken(left_out: Callable[[Hosts], None], way: str) -> None:
    assert [str(one) for one in told([one for one in STORIES if one is not left_out])] == [way]


def test_past_the_pivot_nothing_is_undone_and_no_cancel_is_taken() -> None:
    """What leads nowhere is no way: a switch that lost the guest is for a person, and what is left behind is removed in the end."""
    hosts = Hosts()
    hosts.kit.stub("switching", raises=GuestLost("it is gone", host=B, instance="vm-1", mend="boot it again"))
    move = hosts.move()
    hosts.kit.finish(move)
    move.expect(status="stuck", state="switching", undone=[])
    with pytest.raises(NotPossible, match="point of no return"):
        move.cancel()

    hosts = Hosts()
    hosts.inject("remove_source", 20)
    move = hosts.move()
    hosts.ended(move, "succeeded", "completed", [], B)
    assert move.attempts("cleaning") == 21
