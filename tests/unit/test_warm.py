"""Jobs that a server forks are to those who asked for them what jobs of their own would be."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from winnow import warm

TELLS = """
import os, sys
import helper
print("to stdout", sys.argv, os.getcwd(), os.environ["WORD"], helper.VALUE, __name__, __file__)
print("to stderr", sys.stdin.read(), file=sys.stderr)
"""


class Run:
    """A run of the workflow: the process that owns the server, and jobs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.owner = subprocess.Popen(["sleep", "600"])
        self.name = f"winnow-test-{secrets.token_hex(8)}"

    def write(self, code: str, name: str = "script") -> str:
        (self.folder / f"{name}.py").write_text(code)
        return f"{name}.py"

    def start(self, *words: str, warm_start: bool = True, **environment: str) -> subprocess.Popen[str]:
        through = ["-IS", warm.__file__, self.name, str(self.owner.pid)] if warm_start else []
        kept = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")}
        return subprocess.Popen(
            [sys.executable, *through, *words],
            cwd=self.folder,
            env=kept | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def job(self, *words: str, warm_start: bool = True, **environment: str) -> tuple[int, str, str]:
        """Run a job to its end; returns its exit status and all that it printed."""
        process = self.start(*words, warm_start=warm_start, **environment)
        out, err = process.communicate("from stdin", timeout=120)
        return process.returncode, out, err

    def servers(self) -> list[psutil.Process]:
        """Return the server and its forks that live, the server first."""
        found = []
        for process in psutil.process_iter():
            try:
                alive = process.status() != psutil.STATUS_ZOMBIE
                if alive and self.name in process.cmdline() and "--serve" in process.cmdline():
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
        return sorted(found, key=lambda process: process.create_time())


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path)
    yield run
    run.owner.kill()
    run.owner.wait()
    for process in run.servers():
        process.kill()


def wait_until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, "it never came to pass"
        time.sleep(0.02)


@pytest.mark.parametrize(
    "code",
    [
        TELLS,
        "raise SystemExit",
        "import sys; sys.exit(7)",
        "import sys; sys.exit('a message')",
        "print('before', flush=True); raise ValueError('what went wrong')",
        "def",
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "import atexit; atexit.register(print, 'at the end'); print('first')",
        "from winnow.errors import run_main; run_main(lambda: print('told'))",
    ],
)
def test_a_job_ends_and_prints_as_it_would_by_itself(run: Run, code: str) -> None:
    run.write("VALUE = 3", "helper")
    words = (run.write(code), "--some", "word")
    expected = run.job(*words, warm_start=False, WORD="x")
    for _ in range(2):
        status, out, err = run.job(*words, WORD="x")
        assert (status, out) == expected[:2]
        if "Traceback" in expected[2] or "SyntaxError" in expected[2]:
            assert err.splitlines()[-1] == expected[2].splitlines()[-1]
        else:
            assert err == expected[2]
    assert len(run.servers()) == 1


def test_what_one_job_imports_the_next_one_finds(run: Run) -> None:
    look = run.write("import sys; print('torch' in sys.modules, 'helper' in sys.modules)", "look")
    run.write("VALUE = 3", "helper")
    assert run.job(look)[1] == "False False\n"
    assert run.job(run.write("import torch, helper"))[0] == 0
    assert run.job(look)[1] == "True False\n", "a package is kept, a module of ours is not"


def test_a_job_runs_the_code_that_is_there_when_it_starts(run: Run) -> None:
    script = run.write("import helper; print(helper.VALUE)")
    run.write("VALUE = 3", "helper")
    assert run.job(script)[1] == "3\n"
    run.write("VALUE = 'changed'", "helper")
    assert run.job(script)[1] == "changed\n"


def test_libraries_that_the_server_has_start_no_thread_and_compute_the_same(run: Run) -> None:
    """Threads do not survive a fork, and a lock that one of them holds is never freed."""
    code = """
import os, sys
there = "torch" in sys.modules
import numpy, pandas, pyarrow.parquet, scipy.stats, sklearn.linear_model, torch, torchvision
numbers = torch.arange(90_000, dtype=torch.float32).reshape(300, 300).sin()
print((numbers @ numbers).sum().item(), numpy.linalg.svd(numbers.numpy())[1].sum(), torch.get_num_threads())
print(there, len(os.listdir("/proc/self/task")), file=sys.stderr)
"""
    script = run.write(code)
    cold = run.job(script, OMP_NUM_THREADS="1")
    warm_one = run.job(script, OMP_NUM_THREADS="1")
    assert warm_one[:2] == cold[:2]
    assert warm_one[2] == "True 1\n"
    (server,) = run.servers()
    threads = [file.read_text().strip() for file in Path(f"/proc/{server.pid}/task").glob("*/comm")]
    assert [name for name in threads if not name.startswith("jemalloc")] == ["python"], "jemalloc minds forks"


def test_compiled_loops_have_one_thread_when_their_library_is_there_already(run: Run) -> None:
    script = run.write("""
import torch
from winnow.models.engine import planes
images = torch.rand(64, 32, 16, 16).contiguous(memory_format=torch.channels_last)
planes.forward(images, torch.ones(32), torch.zeros(32))
import numba
print(numba.get_num_threads(), torch.get_num_threads())
""")
    for _ in range(2):
        assert run.job(script, OMP_NUM_THREADS="1") == (0, "1 1\n", "")


def test_jobs_with_more_threads_start_by_themselves(run: Run) -> None:
    script = run.write("import os; print(os.environ['OMP_NUM_THREADS'])")
    assert run.job(script, OMP_NUM_THREADS="2") == (0, "2\n", "")
    assert run.servers() == []


def test_a_command_that_is_repeated_after_the_run_starts_by_itself(run: Run) -> None:
    run.owner.kill()
    run.owner.wait()
    assert run.job(run.write("print('there')")) == (0, "there\n", "")
    assert run.servers() == []


def test_where_no_server_can_be_had_jobs_start_by_themselves_and_soon(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = run.write("print('there')")
    run.name *= 20
    assert run.job(script) == (0, "there\n", ""), "no socket can have this name"

    def start(name: str, owner: str) -> int:
        return os.posix_spawn("/bin/false", ["false"], {})

    monkeypatch.setattr(warm, "start", start)
    begun = time.monotonic()
    assert warm.connect("winnow-test-nobody", str(os.getpid())) is None
    assert time.monotonic() - begun < 10


def sleeper(run: Run) -> str:
    return run.write("import time; print('up', flush=True); time.sleep(2); print('done')")


def test_a_job_dies_with_who_asked_for_it(run: Run) -> None:
    process = run.start(sleeper(run))
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    assert len(run.servers()) == 3, "server, waiting process, job"
    process.kill()
    assert process.stdout.read() == "", "the job was killed before it was done"
    wait_until(lambda: len(run.servers()) == 1)


def test_a_job_outlives_the_server(run: Run) -> None:
    process = run.start(sleeper(run))
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    run.servers()[0].kill()
    assert process.communicate()[0] == "done\n"
    assert process.returncode == 0
    assert run.job(run.write("print('next')", "other"))[1] == "next\n", "a new server takes its place"


def test_the_server_ends_with_the_run_and_the_last_job(run: Run) -> None:
    process = run.start(sleeper(run))
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    run.owner.kill()
    run.owner.wait()
    time.sleep(0.5)
    assert len(run.servers()) == 3
    assert process.communicate()[0] == "done\n"
    assert process.returncode == 0
    wait_until(lambda: run.servers() == [])


def test_jobs_at_once_share_one_server(run: Run) -> None:
    script = run.write("import sys; print(sys.argv[1]); sys.exit(int(sys.argv[1]))")
    processes = [run.start(script, str(number)) for number in range(12)]
    for number, process in enumerate(processes):
        assert process.communicate()[0] == f"{number}\n"
        assert process.returncode == number
    wait_until(lambda: len(run.servers()) == 1)


def test_ctrl_c_reaches_the_job_once(run: Run) -> None:
    code = """
import time
try:
    print("up", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("stopped")
    raise SystemExit(5)
"""
    process = run.start(run.write(code))
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    for member in [psutil.Process(process.pid), *run.servers()]:
        member.send_signal(signal.SIGINT)
    assert process.communicate()[0] == "stopped\n"
    assert process.returncode == 5


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to act as another user (root)")
def test_neither_side_trusts_another_user(run: Run) -> None:
    assert run.job(run.write("print('there')"))[0] == 0
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setuid(4000)
            refused = warm.connect(run.name, str(run.owner.pid)) is None
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(f"\0{run.name}")
                closed = connection.recv(1) == b""
            status = int(not (refused and closed))
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.skipif(os.path.exists("/dev/nvidiactl"), reason="with GPUs jobs start cold")
def test_the_shells_python_starts_jobs_warm(run: Run) -> None:
    script = run.write("import os, sys; print(sys.argv[1:], open(f'/proc/{os.getppid()}/cmdline').read())")
    function = warm.shell_function(run.owner.pid).replace("{{", "{").replace("}}", "}")
    for start, parent in ((function, "--serve"), ("", "bash")):
        done = subprocess.run(
            ["bash", "-c", f"set -euo pipefail; {start}python {script} 'a b' '$c'; true"],
            cwd=run.folder,
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert done.stdout.startswith("['a b', '$c'] ") and parent in done.stdout
