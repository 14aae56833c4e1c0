"""A simulated process of a run: what the user's actions tell it, and what it does to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from interlock.exploring.acting import Attempt, wrapped
from interlock.exploring.plain import Stepped
from interlock.exploring.verdict import made_actions
from interlock.stores.contract import Entry, Schedule
from interlock.testing.process import Killed, Process, View

if TYPE_CHECKING:
    from interlock.exploring.play import Play

__all__ = ["Actor"]


class Actor:
    """A process of a run, and what its actions are told."""

    def __init__(self, play: Play, name: str) -> None:
        self.name = name
        self.play = play
        self.frozen = ""
        self.view = _Recorder(play, self)
        built = made_actions(play.exploration, play.world)
        self.process = Process(
            name, self.view, lambda: play.now, lambda boundary: [wrapped(one, self) for one in built], play.queues,
            play.new_id, lease_seconds=play.exploration.lease_seconds, poll_seconds=play.exploration.lease_seconds / 2,
        )  # fmt: skip

    @property
    def runs(self) -> bool:
        return not self.frozen and not self.process.dead

    # What actions tell, see `acting.Stage`

    def began(self, attempt: Attempt) -> None:
        op = attempt.operation
        self.play.say(self, f"{self._of(attempt)}: attempt {op.number} begins, token {op.token}")

    def mishap(self, attempt: Attempt) -> str:
        inner = self.play.inner
        if inner is None:
            return ""
        if inner.kind != "lost":
            self.play.take(inner)
            words = {"hang": "gets no answer for two hours", "fail": "gets an error in place of its answer"}[inner.kind]
            self.play.say(self, f"{self._of(attempt)} {words}", True)
        return inner.kind

    def failure(self, attempt: Attempt) -> Exception:
        inner = self.play.inner
        if inner is not None and inner.kind == "lost":
            self.play.take(inner)
            self.play.say(self, f"{self._of(attempt)} is done, and its answer is lost", True)
        return self.play.exploration.failure("injected by the explorer")

    def ended(self, attempt: Attempt, what: str) -> None:
        self.play.over = True
        self.play.say(self, f"{self._of(attempt)} {what}")

    def effect(self, attempt: Attempt, text: str) -> None:
        self.play.say(self, f"{self._of(attempt)}: {text}")

    def boundary(self, attempt: Attempt, place: str) -> None:
        if self.process.dead:
            raise Killed
        for mishap in self.play.inside(place, ("crash", "fail")):
            if mishap.kind == "crash":
                self.die()
                raise Killed
            self.play.say(self, f"{self._of(attempt)}: the call fails", True)
            raise self.play.exploration.failure("injected by the explorer")

    def stepping(self, stepped: Stepped) -> None:
        self.play.plain.append(stepped)

    def die(self) -> None:
        self.play.say(self, "is killed (kill -9)", True)
        self.process.kill()

    def _of(self, attempt: Attempt) -> str:
        return f"{self.play.name_of(attempt.operation.id)}{attempt.words}"


class _Recorder(View):
    """One process's view of the store, which tells what was committed."""

    def __init__(self, play: Play, actor: Actor) -> None:
        super().__init__(play.store, play.random, play, lambda what: None)
        self._play, self._actor = play, actor

    def commit(self, entries: Sequence[Entry]) -> list[bool]:
        if self.dead:
            raise Killed
        won = self._store.commit(entries)
        self._play.committed(self._actor, [entry for entry, wins in zip(entries, won, strict=True) if wins])
        return won

    def set_schedule(self, schedule: Schedule, before: Schedule | None) -> bool:
        if self.dead:
            raise Killed
        won = self._store.set_schedule(schedule, before)
        if won:
            self._play.noted(self._actor, schedule)
        return won
