"""Claims: what an operation holds alone or shares up to a limit, from its beginning to its end.

1. All of an operation's claims are taken in one commit, or none: nobody holds some and waits for others. The store sees to it, by
   `in_the_way`, when it commits; so a decision may assume that they are free, and is made anew with what really stands there if not.
2. Who waits, waits in order: whoever waits for the same longer is in the way as much as whoever holds it.
3. What an ancestor holds is no obstacle to its descendants. They wait for other holders, never behind those who wait: who waits for what
   their parent holds waits for them, too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from interlock.definition.flatten import template_fields
from interlock.definition.machine import Definition
from interlock.errors import ClaimTaken, Refused
from interlock.interpreter import facts as f
from interlock.interpreter import rollback, ways
from interlock.interpreter.facts import Holding
from interlock.interpreter.inputs import Claimant, Standing
from interlock.interpreter.phases import Beginning
from interlock.interpreter.snapshot import Snapshot
from interlock.interpreter.turn import Turn, filled

__all__ = ["adopt", "begin", "blocked", "family", "in_the_way", "tick", "wanted"]


def wanted(machine: Definition, data: Mapping[str, object]) -> tuple[Holding, ...]:
    """Return what an operation with this data claims. Raises `Refused` if a field that names it is empty."""
    for claim in machine.claims:
        for name in template_fields(claim.name) if "{" in claim.name else ():
            if data.get(name) in (None, ""):
                raise Refused(
                    f"operation of `{machine.name}`: it claims `{claim.name}`, and its data has no `{name}`: say which",
                    claim=claim.name,
                    field=name,
                )
    return tuple(Holding(filled(claim.name, data), claim.limit) for claim in machine.claims)


def family(snapshot: Snapshot) -> tuple[str, ...]:
    """Return the ids of an operation's ancestors."""
    parent = snapshot.parent
    return () if parent is None else (*parent.ancestors, parent.operation)


def in_the_way(claimants: Sequence[Claimant], operation: str, ancestors: Collection[str]) -> list[Claimant]:
    """Return who stands between an operation and a claim: it is free if they are fewer than its limit.

    Args:
        claimants: everybody who holds the claim, then everybody who waits for it, in order.

    >>> holder, first, second = Claimant("a"), Claimant("b", held=False), Claimant("c", held=False)
    >>> [one.operation for one in in_the_way([holder, first, second], "c", ())]
    ['a', 'b']
    >>> in_the_way([holder, first], "child-of-a", ("a",))
    []
    """
    found = []
    for one in claimants:
        if one.operation == operation:
            break
        if one.operation not in ancestors and (one.held or not ancestors):
            found.append(one)
    return found


def blocked(
    claims: Sequence[Holding], standing: Standing, operation: str, ancestors: Collection[str]
) -> list[tuple[Holding, list[Claimant]]]:
    """Return the claims that are not free, each with who is in the way."""
    found = []
    for claim in claims:
        others = in_the_way(standing.get(claim.name, ()), operation, ancestors)
        if len(others) >= claim.limit:
            found.append((claim, others))
    return found


def begin(turn: Turn, state: str, standing: Standing | None) -> None:
    """Take the claims and enter the first state; or wait for them, or refuse, as machine and caller say."""
    after = turn.after
    claims = wanted(turn.machine, after.data)
    taken = blocked(claims, standing, after.id, family(after)) if standing else []
    if taken:
        return _wait(turn, state, claims, taken)
    if claims:
        turn.add(f.Claimed(claims))
    ways.enter(turn, state)


def adopt(turn: Turn, state: str, standing: Standing | None) -> None:
    """Enter the state in which other code left an operation; its claims are taken if they are free, and else it goes on without them."""
    after = turn.after
    claims = wanted(turn.machine, after.data)
    if claims and not (standing and blocked(claims, standing, after.id, family(after))):
        turn.add(f.Claimed(claims))
    ways.enter(turn, state)


def tick(turn: Turn, standing: Standing | None) -> None:
    """Begin, if it is time to, and what it waits for is free."""
    after = turn.after
    assert isinstance(after.phase, Beginning)
    if after.paused or after.phase.ready_at > turn.now or (after.claims and standing is None):
        return
    begin(turn, after.state, standing)


def _wait(
    turn: Turn, state: str, claims: tuple[Holding, ...], taken: Sequence[tuple[Holding, Sequence[Claimant]]]
) -> None:
    after = turn.after
    if after.claims:
        return  # it waits already
    policies = {filled(claim.name, after.data): after.on_conflict or claim.on_conflict for claim in turn.machine.claims}
    for claim, others in taken:
        if policies[claim.name] == "reject":
            return _reject(turn, claim, others)
    preempts = tuple(claim.name for claim in claims if policies[claim.name] == "preempt")
    waiting = tuple(Holding(claim.name, claim.limit, held=False) for claim in claims)
    timers = after.timers if isinstance(after.phase, Beginning) else turn.deadline()
    turn.add(f.ClaimsAwaited(state, waiting, timers, preempts))


def _reject(turn: Turn, claim: Holding, others: Sequence[Claimant]) -> None:
    after = turn.after
    names = ", ".join(f"`{one.operation}`" for one in others[:5])
    share = "alone" if claim.limit == 1 else f"by {claim.limit} at a time"
    verb = "held" if others[0].held else "waited for"
    what = f"claim `{claim.name}` may be held {share}, and is {verb} by {names}"
    if not isinstance(after.phase, Beginning):
        raise ClaimTaken(
            f'operation of `{after.machine}` not started: {what}; let it end or cancel it, or start with on_conflict="wait"',
            claim=claim.name,
            holders=[one.operation for one in others],
        )
    if "failed" in turn.machine.states:
        return rollback.begin(turn, "failed", what)
    turn.add(f.GotStuck("claim-taken", f"its time has come, but {what}"))
