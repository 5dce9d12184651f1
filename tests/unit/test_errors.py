"""How commands end: what was printed is there, and only a defect of ours ends in a traceback."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

PROGRAM = "import atexit, sys, time\nfrom winnow.errors import UserError, run_main\nrun_main(lambda: {})"


def end(action: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(action)], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def test_a_successful_command_prints_all_and_calls_exit_handlers() -> None:
    told = "(print('x' * 100_000), print('err', file=sys.stderr), atexit.register(print, 'handler'))"
    assert end(told) == (0, "x" * 100_000 + "\nhandler\n", "err\n")


def test_a_mistake_is_one_message() -> None:
    assert end("(_ for _ in ()).throw(UserError('config.yaml: no'))") == (2, "", "error: config.yaml: no\n")


def test_a_defect_of_ours_shows_where() -> None:
    status, _, err = end("1 / 0")
    assert status == 1
    assert "Traceback" in err and "ZeroDivisionError" in err


def test_ctrl_c_shows_no_traceback() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format("(print('up', flush=True), time.sleep(60))")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate() == ("", "stopped\n")
    assert process.returncode == 130


@pytest.mark.parametrize("action", ["print('a ' * 100_000)", "sys.stdout.write('unfinished')"])
def test_a_full_disk_under_the_output_is_told(action: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM.format(action)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode != 0
    assert "the disk is full" in done.stderr
    assert "Traceback" not in done.stderr
