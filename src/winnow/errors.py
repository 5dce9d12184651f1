"""The one exception that users see as a message instead of a stack trace."""

from __future__ import annotations

import os
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


def run_main(main: Callable[[], None]) -> None:
    """Run a command's `main`; a `UserError` becomes one message on stderr and exit status 2."""
    try:
        main()
    except UserError as error:
        sys.exit(_report(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _report(error: UserError) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 2
