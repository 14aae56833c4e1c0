"""Plain functions in step: one runs only while it is waited for, can be failed and ended where it stands, and given up."""

from __future__ import annotations

from interlock.exploring.plain import Stepped
from interlock.testing.process import Killed


def test_it_is_failed_and_ended_where_it_stands() -> None:
    said: list[str] = []

    def work() -> str:
        try:
            stepped.boundary()
        except OSError as error:
            said.append(str(error))
        try:
            stepped.boundary()
        finally:
            said.append("ended")
        return "never"

    stepped = Stepped(work)
    stepped.resume()
    assert not stepped.over and stepped.begun and Stepped.active is None
    stepped.resume(OSError("no answer"))
    assert said == ["no answer"] and not stepped.over
    stepped.end()
    assert said == ["no answer", "ended"] and stepped.result is None
    assert isinstance(stepped.error, Killed)


def test_what_was_never_begun_needs_no_end() -> None:
    stepped = Stepped(lambda: None)
    stepped.end()
    stepped.give_up()
    assert not stepped.begun and stepped.ident is None
