"""Starts the jobs of a run on one machine from a process that has their libraries loaded.

Half of a small job's time is `import torch`. Here the first job of a run starts a server, which forks itself
for every job that follows. After each job it imports what that job has imported from outside the repository.
Our own modules are never loaded in the server: a job runs the code that is on disk when it starts.

As a script, this is what rules run as `python` (`-IS` makes it start in 20 ms):
  python -IS src/winnow/warm.py NAME PID scripts/train.py --spec ...
NAME is the server's socket in Linux's abstract namespace; the server ends with process PID and its own last
job. The job has this process's environment, folder, arguments and open files, ends when this process is
killed, and gives it its exit status. Only processes of the same user are served.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import selectors
import shlex
import signal
import socket
import struct
import sys
import time
from typing import NoReturn, TypedDict

SECONDS = 30.0
"""How long a job waits for the server before it starts without."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
"""What the server's libraries were loaded with, and its jobs have to go on with."""


class Request(TypedDict):
    """What a job is to be: `python <words>` in a folder, with an environment."""

    words: list[str]
    folder: str
    environment: dict[str, str]


def main(words: list[str]) -> NoReturn:
    """Run a job through the server `words[0]` of process `words[1]`, or serve."""
    if words[0] == "--serve":
        Server(words[1], int(words[2])).run()
        sys.exit()
    name, owner, *job = words
    single = os.environ.get("OMP_NUM_THREADS", "1") == "1" and os.path.exists(f"/proc/{owner}")
    connection = connect(name, owner) if single else None
    if connection is None:
        os.execv(sys.executable, [sys.executable, *job])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of Ctrl-C the job gets its own
    request = Request(words=job, folder=os.getcwd(), environment=os.environ | ONE_THREAD)
    body = json.dumps(request).encode()
    socket.send_fds(connection, [struct.pack("!Q", len(body))], [0, 1, 2])
    connection.sendall(body)
    answer = connection.recv(4)
    if len(answer) < 4:
        sys.exit(f"error: {job[0]}: the process that runs jobs has been killed")
    (status,) = struct.unpack("!i", answer)
    if status < 0:
        os.kill(os.getpid(), -status)
    sys.exit(status)


def is_possible() -> bool:
    """Whether jobs of this machine start warm: not with GPUs (CUDA after a fork is not tested), on Linux."""
    return sys.platform == "linux" and not os.path.exists("/dev/nvidiactl")


def shell_function(owner: int) -> str:
    """Return the shell's definition of a `python` that starts jobs of process `owner` warm.

    Empty where that is not possible. Its braces are doubled for Snakemake.
    """
    if not is_possible():
        return ""
    words = shlex.join(
        ["-IS", os.path.abspath(__file__), f"winnow-{owner}-{os.urandom(8).hex()}", str(owner)]
    )
    return f'python() {{ command python {words} "$@"; }}; '.replace("{", "{{").replace("}", "}}")


def connect(name: str, owner: str) -> socket.socket | None:
    """Return a connection to the server, which is started if need be; None where none can be had."""
    end, server = time.monotonic() + SECONDS, None
    while time.monotonic() < end:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(f"\0{name}")
        except ConnectionRefusedError:
            connection.close()
            if server is None:
                server = start(name, owner)
            elif server and os.waitpid(server, os.WNOHANG)[0]:
                # It cannot serve here, or another one was faster and will answer soon.
                end, server = time.monotonic() + 1, 0
            time.sleep(0.02)
        except OSError:
            return None
        else:
            return connection if same_user(connection) else None
    return None


def start(name: str, owner: str) -> int:
    """Start the server. Of several that are started at once, one gets the name and the others end."""
    with open(os.devnull, "r+b") as nothing:
        actions = [(os.POSIX_SPAWN_DUP2, nothing.fileno(), number) for number in (0, 1, 2)]
        command = [sys.executable, "-P", __file__, "--serve", name, owner]
        return os.posix_spawn(sys.executable, command, os.environ | ONE_THREAD, file_actions=actions)


def same_user(connection: socket.socket) -> bool:
    """Whether the process at the other end is this user's."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return bool(struct.unpack("3i", credentials)[1] == os.getuid())


class Server:
    """Forks a process per job, and learns from those that have ended what to import.

    The job's parent is a fork too, which waits for it: this one may be busy with an import.
    """

    def __init__(self, name: str, owner: int) -> None:
        self.selector = selectors.DefaultSelector()
        self.jobs, self.orphan = 0, False
        self.listener = socket.socket(socket.AF_UNIX)
        try:
            self.owner = os.pidfd_open(owner)
            self.listener.bind(f"\0{name}")
        except OSError:
            sys.exit()
        self.listener.listen(64)

    def run(self) -> None:
        """Serve until the owner and all jobs have ended."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.selector.register(self.listener, selectors.EVENT_READ, self._accept)
        self.selector.register(self.owner, selectors.EVENT_READ, self._orphaned)
        while self.jobs or not self.orphan:
            for key, _ in self.selector.select():
                key.data()

    def _orphaned(self) -> None:
        self.selector.unregister(self.owner)
        self.selector.unregister(self.listener)
        self.orphan = True

    def _accept(self) -> None:
        connection, _ = self.listener.accept()
        with connection:
            try:
                if not same_user(connection):
                    return
                head, files, *_ = socket.recv_fds(connection, 8, 3)
                request = json.loads(_receive(connection, *struct.unpack("!Q", head)))
            except (OSError, ValueError, struct.error):
                return
            learnt = os.memfd_create("imported")
            pid = os.fork()
            if pid == 0:
                self.listener.close()
                wait_for_job(connection, request, files, learnt)
        for file in files:
            os.close(file)
        ended = os.pidfd_open(pid)
        self.jobs += 1
        self.selector.register(ended, selectors.EVENT_READ, lambda: self._finished(pid, ended, learnt))

    def _finished(self, pid: int, ended: int, learnt: int) -> None:
        self.selector.unregister(ended)
        os.close(ended)
        os.waitpid(pid, 0)
        self.jobs -= 1
        with open(learnt, encoding="utf-8") as names:
            names.seek(0)
            learn(names.read().split())


def wait_for_job(connection: socket.socket, request: Request, files: list[int], learnt: int) -> NoReturn:
    """Run the job in a process of its own and tell who asked how it ended; kill it when that one is gone."""
    pid = os.fork()
    if pid == 0:
        connection.close()
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        run_job(request, learnt)
    ended = os.pidfd_open(pid)
    ready, *_ = select.select([ended, connection.fileno()], [], [])
    if ended not in ready:
        os.kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(OSError):
        connection.sendall(struct.pack("!i", status))
    os._exit(0)


def _receive(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        part = connection.recv(min(size - len(found), 2**20))
        if not part:
            raise ConnectionResetError
        found += part
    return found


def learn(names: list[str]) -> None:
    """Import modules, those that are there already left out."""
    import gc
    import importlib

    new = [name for name in names if name not in sys.modules]
    for name in new:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    if new:
        gc.freeze()  # forked processes then never walk over what they share


def run_job(request: Request, learnt: int) -> NoReturn:
    """Run a script in this process as `python <words>` would, and end."""
    import atexit
    import traceback
    import types

    words = sys.argv = request["words"]
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    module = sys.modules["__main__"] = types.ModuleType("__main__")
    module.__file__ = os.path.abspath(words[0])
    sys.path.insert(0, os.path.dirname(module.__file__))
    atexit.register(tell, learnt)
    status = 1
    try:
        with open(module.__file__, "rb") as file:
            exec(compile(file.read(), module.__file__, "exec"), vars(module))
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def tell(learnt: int) -> None:
    """Write the names of the loaded modules that belong to this Python or to a package installed in it."""
    homes = tuple(f"{os.path.abspath(place)}{os.sep}" for place in {sys.prefix, sys.base_prefix})
    names = [
        name
        for name, module in list(sys.modules.items())
        if str(getattr(getattr(module, "__spec__", None), "origin", None)).startswith(homes)
    ]
    with open(learnt, "w", encoding="utf-8") as file:
        file.write("\n".join(names))


if __name__ == "__main__":
    main(sys.argv[1:])
