"""Interrupts that are not lost."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

AGAIN_SECONDS = 1.0


@contextmanager
def heard() -> Iterator[None]:
    """Raise an interrupt that comes in the block again each second, until it has ended the block.

    Nothing can be raised where one comes while a finaliser runs (Python prints a traceback that says "ignored", and goes on), and a
    library may catch one, or fail for it later, as after half an import: torch's compiler does all that. Other threads, and programs
    that handle interrupts themselves, are left alone.

    Raises:
        KeyboardInterrupt: if one came, whatever error then ended the block.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    came, ended = threading.Event(), threading.Event()

    def again() -> None:
        while not ended.wait(AGAIN_SECONDS):
            _thread.interrupt_main()

    def first(*_: object) -> None:
        came.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        threading.Thread(target=again, daemon=True).start()
        raise KeyboardInterrupt

    hook = sys.unraisablehook

    def quiet(unraisable: sys.UnraisableHookArgs) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            hook(unraisable)

    signal.signal(signal.SIGINT, first)
    sys.unraisablehook = quiet
    try:
        yield
    except Exception as error:
        if came.is_set():
            raise KeyboardInterrupt from error
        raise
    finally:
        ended.set()
        sys.unraisablehook = hook
        signal.signal(signal.SIGINT, signal.default_int_handler)
