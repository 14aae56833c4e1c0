"""Scenario files: plain commands in, the whole trace out, reviewed as a diff.

A file is a sequence of blocks: a command line, a line ``----``, what it printed, an empty line. Commands:

    machine NAME                            choose the machine (tests/machines.py)
    written VERSION                         the worker's actions are those of this version of it
    start [field=json ...] [@option=json]   start an operation; options: state, deadline, timeouts, within, retries, breakpoints, delay,
                                            on_conflict, standing ({claim: [holders]}, those who wait begin with "-")
    claims json                             a tick with what stands at the claims, as above
    child INDEX OUTCOME [reason]            a child is over
    owns KIND ID | disowns KIND ID          what the running action says of what it made
    take | tick | lapse | silent            the clock and the worker
    done [event] [field=json ...] [?condition=bool ...]
    fail KIND [message] [!final] [!after=seconds]
    stopped
    signal EVENT [field=json ...] [@key=...] [@hold=true]
    report STATE|!event [field=json ...] [@key=...]
    adopt STATE [field=json ...] [@steps=json]
    reported [STATE ...]                    what other code performs, as the worker knows
    cancel | pause [state ...] | resume | retry [reason] | skip [reason] | override STATE [reason]
    wait DURATION                           let time pass, without telling the operation
    worker on|off|QUEUE ...                 whether a worker stands by to be issued the next attempt, and its queues
    why | possible | steps | data           look

Run with ``REWRITE=1`` to write what is printed now into the files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from interlock import InterlockError
from interlock.definition.duration import seconds
from interlock.definition.machine import Definition
from interlock.interpreter import inputs as i
from interlock.interpreter.children import child_id
from interlock.interpreter.decide import decide
from interlock.interpreter.facts import Bounds, Fact, Failure, Parent
from interlock.interpreter.possible import possible
from interlock.interpreter.snapshot import Running, Snapshot, fold
from interlock.interpreter.why import Load, why
from tests.machines import ALL, NEWER

EVERYWHERE = frozenset({"", "host:a", "host:b", "host:z1"})
Edge = tuple[str, str]


class Scenario:
    """Runs the commands of one file and collects which status edges and rules they took."""

    def __init__(self) -> None:
        self.machine: Definition = ALL[0].definition
        self.snapshot: Snapshot | None = None
        self.journal: list[tuple[Fact, float]] = []
        self.decisions: list[tuple[Definition, list[tuple[float, tuple[Fact, ...]]]]] = []
        self.now = 0.0
        self.offer: i.Offer | None = i.Offer("w1", EVERYWHERE)
        self.written: dict[str, Definition] = {}
        self.worker = "w1"
        self.last_token = 0
        self.standing: i.Standing = {}
        self.edges: set[Edge] = set()
        self.rules: set[tuple[str, str]] = set()
        self.facts: set[type] = set()

    def run(self, line: str) -> str:
        """Carry out one command and return what it printed."""
        command, *words = line.split(" ", 1)
        rest = words[0] if words else ""
        verb: Callable[[str], str] = getattr(self, f"do_{command}")
        try:
            return verb(rest)
        except InterlockError as error:
            return f"{type(error).__name__}: {error}"

    def give(self, input: i.Input) -> str:
        before = self.snapshot
        decision = decide(self.machine, before, input, self.now)
        if before is None:
            self.decisions.append((self.machine, []))
        if decision.facts:
            self.decisions[-1][1].append((self.now, decision.facts))
        for fact in decision.facts:
            self.journal.append((fact, self.now))
            self.facts.add(type(fact))
        self.snapshot = decision.snapshot
        self.machine = next(one for one in self.versions() if one.version == self.snapshot.version)
        self.edges.add((before.status if before else "", self.snapshot.status))
        phase = type(before.phase).__name__ if before else ""
        self.rules.add((type(input).__name__, phase))
        again: Snapshot | None = None
        for fact, at in self.journal:
            again = fold(again, fact, at)
        assert again == self.snapshot, "folding the journal does not give the snapshot"
        stored = msgspec.json.decode(msgspec.json.encode(self.snapshot), type=Snapshot)
        assert stored == self.snapshot, "the snapshot does not survive being stored"
        if isinstance(self.snapshot.phase, Running):
            self.last_token = self.snapshot.phase.token
        lines = [show(fact) for fact in decision.facts] or ["nothing"]
        lines += [f"  effect {show(effect)}" for effect in decision.effects]
        return "\n".join([*lines, f"= {self.snapshot.status} in {self.snapshot.state}"])

    @property
    def token(self) -> int:
        return self.last_token

    def versions(self) -> list[Definition]:
        """Return all versions of the chosen machine."""
        return [one.definition for one in (*ALL, *NEWER) if one.definition.name == self.machine.name]

    def do_written(self, rest: str) -> str:
        own = next(one for one in self.versions() if one.version == int(rest))
        self.written = {own.name: own}
        self.do_worker("on")
        return f"the worker's actions are written for {own.name} version {own.version}"

    def do_machine(self, rest: str) -> str:
        self.machine = next(one.definition for one in ALL if one.definition.name == rest)
        self.snapshot, self.journal, self.now = None, [], 0.0
        return self.machine.description.splitlines()[0]

    def do_start(self, rest: str) -> str:
        words = pairs(rest)
        options = {key[1:]: words.pop(key) for key in [*words] if key.startswith("@")}
        self.standing = standing(options.get("standing", {}))
        bounds = {key: options.pop(key) for key in ("deadline", "timeouts", "within", "retries") if key in options}
        return self.give(
            i.Start(
                "op",
                words,
                bounds=Bounds(**bounds) if bounds else None,
                offer=self.offer,
                by="ann",
                state=options.get("state"),
                breakpoints=tuple(options.get("breakpoints", ())),
                not_before=self.now + options["delay"] if "delay" in options else None,
                on_conflict=options.get("on_conflict", ""),
                standing=self.standing or None,
                parent=msgspec.convert(options["parent"], Parent) if "parent" in options else None,
            )
        )

    def do_claims(self, rest: str) -> str:
        self.standing = standing(json.loads(rest))
        return self.give(i.Tick(self.offer, self.standing))

    def do_child(self, rest: str) -> str:
        index, outcome, *reason = rest.split(" ", 2)
        assert self.snapshot is not None
        child = child_id(self.snapshot, int(index))
        ended: Any = outcome
        return self.give(i.ChildOver(int(index), child, ended, " ".join(reason), self.offer))

    def do_owns(self, rest: str) -> str:
        kind, id = rest.split()
        return self.give(i.Owns(self.token, kind, id))

    def do_disowns(self, rest: str) -> str:
        kind, id = rest.split()
        return self.give(i.Owns(self.token, kind, id, gone=True))

    def do_take(self, rest: str) -> str:
        return self.give(i.Take(self.offer or i.Offer("w1", EVERYWHERE)))

    def do_tick(self, rest: str) -> str:
        return self.give(i.Tick(self.offer))

    def do_lapse(self, rest: str) -> str:
        return self.give(i.Lapsed(rest or self.worker, self.offer))

    def do_silent(self, rest: str) -> str:
        return self.give(i.Silent(self.token))

    def do_done(self, rest: str) -> str:
        words = pairs(rest)
        answers = {key[1:]: words.pop(key) for key in [*words] if key.startswith("?")}
        token = words.pop("@token", self.token)
        event = next((key for key, value in words.items() if value is None), "done")
        return self.give(i.Done(token, event, {k: v for k, v in words.items() if v is not None}, answers, self.offer))

    def do_fail(self, rest: str) -> str:
        words = rest.split()
        final = "!final" in words
        after = next((float(word.partition("=")[2]) for word in words if word.startswith("!after")), None)
        plain = [word for word in words if not word.startswith("!")]
        failure = Failure(plain[0], " ".join(plain[1:]), (plain[0], "Exception"), final, after)
        return self.give(i.Failed(self.token, failure, self.offer))

    def do_stopped(self, rest: str) -> str:
        return self.give(i.Stopped(self.token, self.offer))

    def do_signal(self, rest: str) -> str:
        words = pairs(rest)
        event = next(iter(words))
        words.pop(event)
        key, hold = words.pop("@key", ""), words.pop("@hold", False)
        return self.give(i.Signal(event, words, key, hold, "bob", self.offer))

    def do_report(self, rest: str) -> str:
        words = pairs(rest)
        what = next(iter(words))
        words.pop(what)
        key, event = words.pop("@key", ""), what[1:] if what.startswith("!") else ""
        return self.give(i.Report(event, "" if event else what, words, key, "old", self.offer))

    def do_adopt(self, rest: str) -> str:
        words = pairs(rest)
        state = next(iter(words))
        words.pop(state)
        steps = words.pop("@steps", None)
        return self.give(i.Start("op", words, state, "old", offer=self.offer, record="17", adopted=True, steps=steps))

    def do_reported(self, rest: str) -> str:
        states = frozenset((self.machine.name, state) for state in rest.split())
        self.offer = i.Offer(self.worker, EVERYWHERE, states)
        return f"other code performs {rest or 'nothing'}"

    def do_cancel(self, rest: str) -> str:
        return self.give(i.Cancel("bob", rest, self.offer))

    def do_pause(self, rest: str) -> str:
        return self.give(i.Pause("bob", before=tuple(rest.split()) if rest else None))

    def do_resume(self, rest: str) -> str:
        return self.give(i.Resume("bob", self.offer))

    def do_retry(self, rest: str) -> str:
        return self.give(i.Retry("bob", rest, self.offer))

    def do_skip(self, rest: str) -> str:
        return self.give(i.Skip("bob", rest, self.offer))

    def do_override(self, rest: str) -> str:
        state, _, reason = rest.partition(" ")
        return self.give(i.Override(state, "bob", reason, self.offer))

    def do_wait(self, rest: str) -> str:
        self.now += seconds(rest)
        return f"it is {self.now:g}"

    def do_worker(self, rest: str) -> str:
        if rest in ("on", "off"):
            self.offer = i.Offer(self.worker, EVERYWHERE, written=self.written) if rest == "on" else None
            return f"a worker stands by: {rest}"
        self.worker, *queues = rest.split()
        self.offer = i.Offer(self.worker, frozenset(queues) or EVERYWHERE, written=self.written)
        return f"worker {self.worker} stands by"

    def do_why(self, rest: str) -> str:
        assert self.snapshot is not None
        written = {one.version: one for one in self.written.values()}
        answer = why(self.machine, self.snapshot, (), self.now, Load(standing=self.standing), written)
        return "\n".join([f"waits for {answer.waits_for}", *(f"- {detail}" for detail in answer.details)])

    def do_possible(self, rest: str) -> str:
        assert self.snapshot is not None
        return ", ".join(possible(self.machine, self.snapshot)) or "nothing"

    def do_steps(self, rest: str) -> str:
        assert self.snapshot is not None
        return ", ".join(self.snapshot.steps) or "none"

    def do_data(self, rest: str) -> str:
        assert self.snapshot is not None
        return json.dumps(self.snapshot.data)


def standing(said: dict[str, list[str]]) -> i.Standing:
    """Return ``{"claim": ["holder", "-waiter"]}`` as what stands at claims."""
    return {
        name: [i.Claimant(one.removeprefix("-"), not one.startswith("-")) for one in names]
        for name, names in said.items()
    }


def pairs(text: str) -> dict[str, Any]:
    """Return ``a=1 b=x c`` as ``{"a": 1, "b": "x", "c": None}``; values are JSON where they parse as such."""
    found: dict[str, Any] = {}
    for word in text.split():
        key, equals, value = word.partition("=")
        if not equals:
            found[key] = None
            continue
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found


def show(thing: Any) -> str:
    """Return a fact or an effect in one line, defaults left out."""
    if isinstance(thing, msgspec.Struct):
        fields = msgspec.to_builtins(thing)
        fields.pop("fact", None)
    else:
        fields = {name: getattr(thing, name) for name in thing.__slots__}
    return " ".join(
        [
            type(thing).__name__,
            *(f"{key}={value}" for key, value in fields.items() if value not in ((), None, "", False)),
        ]
    )


def replay(path: Path) -> tuple[str, str, Scenario]:
    """Run a file; return what it says, what it should say, and the scenario with its coverage."""
    text = path.read_text()
    scenario, out = Scenario(), []
    for block in text.strip().split("\n\n"):
        comment, command = [], ""
        for line in block.splitlines():
            if line.startswith("#"):
                comment.append(line)
            elif line == "----":
                break
            else:
                command = line
        out.append("\n".join([*comment, *([command, "----", scenario.run(command)] if command else [])]))
    now = "\n\n".join(out) + "\n"
    if os.environ.get("REWRITE"):
        path.write_text(now)
        text = now
    return text, now, scenario
