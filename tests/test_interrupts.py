"""An interrupt ends what it comes into, wherever it comes."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
import weakref

import pytest

from carryover import interrupts


class Thing:
    pass


@pytest.fixture(autouse=True)
def _python_handles_interrupts(monkeypatch: pytest.MonkeyPatch) -> object:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(interrupts, "AGAIN_SECONDS", 0.05)
    yield
    signal.signal(signal.SIGINT, before)


def _wait() -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        time.sleep(0.001)


def test_an_interrupt_in_a_finaliser_is_raised_again_without_a_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    thing = Thing()
    reference = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
    begun = time.monotonic()
    lost = False
    with pytest.raises(KeyboardInterrupt), interrupts.heard():
        del thing
        lost = reference() is None
        _wait()
    assert lost, "an interrupt in a finaliser is not raised there"
    assert time.monotonic() - begun < 10
    assert capfd.readouterr().err == ""


def test_an_interrupt_that_is_caught_is_raised_again() -> None:
    caught = 0
    with pytest.raises(KeyboardInterrupt), interrupts.heard():
        for _ in range(3):
            try:
                signal.raise_signal(signal.SIGINT) if not caught else _wait()
            except BaseException:
                caught += 1
        _wait()
    assert caught == 3


@pytest.mark.parametrize("interrupted", [True, False])
def test_an_error_after_an_interrupt_is_the_interrupt(interrupted: bool) -> None:
    with pytest.raises(KeyboardInterrupt if interrupted else ZeroDivisionError), interrupts.heard():
        with contextlib.suppress(BaseException):
            signal.raise_signal(signal.SIGINT if interrupted else signal.SIGWINCH)
        1 / 0  # noqa: B018


def test_other_errors_of_finalisers_are_told_and_the_handlers_are_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", lambda unraisable: told.append(unraisable.exc_type))
    thing = Thing()
    reference = weakref.ref(thing, lambda _: 1 / 0)
    with interrupts.heard():
        del thing
    assert reference() is None and told == [ZeroDivisionError]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_program_that_handles_interrupts_itself_and_other_threads_are_left_alone() -> None:
    heard: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    with interrupts.heard():
        signal.raise_signal(signal.SIGINT)
    assert heard == [signal.SIGINT]
    errors: list[BaseException] = []

    def elsewhere() -> None:
        try:
            with interrupts.heard():
                pass
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert errors == []
