"""The guest's image and what its consoles prove; no hypervisor is needed for it."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.compute import guest
from interlock.compute.guest import DISK_BYTES, Line, boot_code, prove, read, render, write_disk


def said(first: int, last: int, *, nonce: int = 0xC0FFEE, errors: int = 0, disk: int | None = None) -> str:
    """What a guest prints from one counter to another."""
    return "".join(
        render(Line(nonce, n, errors, n // 16 if disk is None else disk, 128, 1)) for n in range(first, last + 1)
    )


class TestImage:
    def test_pages_are_patched_and_nothing_else(self) -> None:
        one, other = boot_code(4096, 16), boot_code(16384, 2048)
        assert len(one) == 1024
        assert one[510:512] == b"\x55\xaa"
        assert struct.unpack_from("<II", other, 500) == (16384, 2048)
        assert one[:500] == other[:500]
        assert one[508:] == other[508:]

    @pytest.mark.parametrize(("filled", "dirtied"), [(0, 1), (1, 0), (16, 17), (1 << 30, 1), (-1, -1)])
    def test_pages_out_of_range_are_refused(self, filled: int, dirtied: int) -> None:
        with pytest.raises(ValueError, match="must be between 1 and"):
            boot_code(filled, dirtied)

    def test_an_altered_image_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(guest, "_SHA256", "0" * 64)
        with pytest.raises(ValueError, match="the guest's code was altered"):
            boot_code(16, 1)

    def test_the_disk_is_a_mebibyte_with_the_code_in_front(self, tmp_path: Path) -> None:
        write_disk(tmp_path / "disk", 4096, 16)
        disk = (tmp_path / "disk").read_bytes()
        assert len(disk) == DISK_BYTES
        assert disk[:1024] == boot_code(4096, 16)
        assert not any(disk[1024:])


class TestReading:
    def test_a_line_as_qemu_logs_it(self) -> None:
        text = "B0bb4a3e6 N00000005 E00000000 D00000001 M00000080 C00000002 \r\n"
        assert read(text).lines == (Line(0x0BB4A3E6, 5, 0, 1, 128, 2),)

    def test_the_torn_end_is_kept_apart(self) -> None:
        reading = read(said(1, 3) + "B00c0ffee N000000")
        assert [line.counter for line in reading.lines] == [1, 2, 3]
        assert reading.torn == "B00c0ffee N000000"
        assert reading.strange == 0

    def test_a_whole_line_counts_though_its_end_is_not_there_yet(self) -> None:
        reading = read(said(1, 2).removesuffix("\r\n"))
        assert [line.counter for line in reading.lines] == [1, 2]
        assert reading.torn == ""

    def test_noise_and_power_off(self) -> None:
        reading = read("SeaBIOS\r\n" + said(1, 1) + "Q00000001 \r\n\r\n")
        assert (reading.strange, reading.powered_off, len(reading.lines)) == (1, 1, 1)

    @given(st.text())
    def test_any_text_can_be_read(self, text: str) -> None:
        assert len(read(text).lines) <= text.count("B")

    @given(st.builds(Line, *[st.integers(0, (1 << 32) - 1)] * 6))
    def test_what_is_rendered_is_read_again(self, line: Line) -> None:
        assert read(render(line)).lines == (line,)


class TestProof:
    def test_one_life_over_two_consoles(self) -> None:
        proof = prove([said(1, 20), said(21, 30)])
        assert proof.holds
        assert (proof.first, proof.last, proof.lines, proof.missing, proof.nonces) == (1, 30, 30, 0, (0xC0FFEE,))

    @given(st.integers(0, len(said(1, 12))), st.integers(0, len(said(1, 12))), st.randoms(use_true_random=False))
    def test_moved_at_any_byte_twice_and_read_in_any_order(self, a: int, b: int, order: random.Random) -> None:
        text, (first, second) = said(1, 12), sorted((a, b))
        consoles = ["", text[:first], text[first:second] if second - first > 130 else "", ""]
        consoles.append(text[first:] if not consoles[2] else text[second:])
        order.shuffle(consoles)
        proof = prove(consoles)
        # A place without one whole line cannot be told from the youngest: only then may a line be lost in the joining.
        if all(not text or read(text).lines for text in consoles):
            assert proof.faults() == []
            assert proof.lines == 12
        assert proof.backwards == ()

    def test_a_line_swallowed_by_the_move_is_counted(self) -> None:
        proof = prove([said(1, 5) + "B00c0ffee N0000", said(7, 9)])
        assert (proof.missing, proof.lines, proof.strange) == (1, 8, 1)
        assert proof.faults() == ["1 lines are missing between 1 and 9"]
        assert proof.faults(missing_allowed=1) == []

    def test_a_restart_is_seen(self) -> None:
        proof = prove([said(1, 9), said(1, 4, nonce=0xBAD)])
        assert not proof.holds
        assert proof.faults()[0] == "the guest was booted 2 times: nonces 00000bad, 00c0ffee"

    def test_a_guest_that_ran_twice_at_once_is_seen(self) -> None:
        proof = prove([said(1, 20), said(15, 30)])
        assert proof.backwards == ((20, 15),)
        assert proof.faults()[0] == "the counter went from 20 to 15"

    def test_a_counter_that_stood_still_is_seen(self) -> None:
        assert prove([said(1, 5), said(5, 9)]).backwards == ((5, 5),)

    def test_damaged_memory_and_a_foreign_disk_are_seen(self) -> None:
        proof = prove([said(1, 3, disk=9), said(4, 6, errors=2, disk=3)])
        assert proof.faults() == [
            "2 pages of its memory were not what the guest had written",
            "the counter on its disk went back 1 times",
        ]

    @pytest.mark.parametrize("consoles", [[], [""], ["", "garbage\r\n"], ["B00c0ffee"]])
    def test_silence_proves_nothing(self, consoles: list[str]) -> None:
        assert prove(consoles).faults() == ["the guest never said anything"]
