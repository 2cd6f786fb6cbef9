"""lane: DVC as `stages.repro` runs it: quietly, but what goes wrong between stages is said in one sentence.

`dvc --quiet` hides its own errors as well: a lane that failed for one, or whose stage was killed, would end without a word.
"""

from __future__ import annotations

import signal
import sys

# Of these a stage has told itself (see `carryover.errors.told`), or it was interrupted before it could.
TOLD = tuple(f"exited with {code}" for code in (1, 130, -signal.SIGINT))


def main() -> int:
    """Run DVC's command line; return its exit code."""
    # An interrupt while it still imports its libraries ends it without a traceback: see `stages`.
    import dvc.cli
    import dvc.lock

    # DVC holds its lock for some hundredths of a second and looks twice a second whether it is free; a lane looks more often.
    dvc.lock.DEFAULT_TIMEOUT = 0.06
    # DVC calls this for whatever ends it, within its `except`.
    dvc.cli.logger.exception = lambda *_, **__: _say(sys.exception())
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code: int = dvc.cli.main()
    return code


def _say(error: BaseException | None) -> None:
    """Print what DVC failed at and why, unless it was interrupted or a stage has said so."""
    from dvc.stage.exceptions import StageCmdFailedError

    reasons = []
    while error is not None:
        if isinstance(error, KeyboardInterrupt) or (isinstance(error, StageCmdFailedError) and str(error).endswith(TOLD)):
            return
        reasons.append(" ".join(str(error).split()) or type(error).__name__)
        error = error.__cause__
    print(f"Error: DVC {': '.join(reasons).rstrip('.')}.", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
