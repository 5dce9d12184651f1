"""The one exception that users see as a message instead of a stack trace."""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import re
import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches


class UserError(Exception):
    """A mistake that the user can mend: the message names the file, the key, the value and the fix."""


def one_of(accepted: Iterable[object]) -> str:
    """Return the accepted values as text for an error message, sorted and comma-separated."""
    return ", ".join(sorted(str(value) for value in accepted)) or "(none)"


def unknown(what: str, value: object, accepted: Iterable[object], where: str) -> UserError:
    """Build the error for a name that is not known, with the nearest accepted name if there is one."""
    names = [str(name) for name in accepted]
    near = get_close_matches(str(value), names, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return UserError(f"{where}: unknown {what} '{value}'.{hint} Accepted: {one_of(names)}.")


def disk_error(error: OSError, place: object) -> UserError | None:
    """Return the message for a full, read-only or forbidden disk; None for any other reason."""
    reasons = {
        errno.ENOSPC: "the disk is full: free space or set `store` in config.yaml to another disk",
        errno.EDQUOT: "the quota is used up: free space or set `store` in config.yaml to another disk",
        errno.EROFS: "the file system is read-only: set `store` in config.yaml to a writable folder",
        errno.EACCES: "no permission to write: set `store` in config.yaml to a writable folder",
    }
    short_write = re.search(r"\d+ requested and \d+ written", str(error))  # NumPy's, without a reason
    reason = errno.ENOSPC if short_write else error.errno
    return UserError(f"{error.filename or place}: {reasons[reason]}") if reason in reasons else None


def run_main(main: Callable[[], None]) -> None:
    """Run a command's `main` and end the process; a `UserError` becomes one message and status 2."""
    try:
        main()
        sys.stdout.flush()
    except UserError as error:
        sys.exit(_report(error))
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        known = disk_error(error, "output")
        if known is None:
            raise
        sys.exit(_report(known))
    else:
        leave()


def leave() -> None:
    """End a successful process without taking its modules apart: of torch's, that costs each job a second."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(0)


def _report(error: UserError) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 2
