"""A real Slurm cluster of several nodes on this one machine, without any network but loopback.

One munged, one slurmctld and a slurmd per node, started as root in a network namespace of their own (or in
the machine's network where namespaces are forbidden, as in some containers: `isolated` says which). Nodes
may have more processors, memory and GPUs than there are: GPUs are links to /dev/null, which Slurm schedules,
counts and numbers as it does real ones. Everything lies in one folder and is gone after `stop`.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged", "unshare", "nsenter", "ip", "setpriv")
LINK = Path("/etc/slurm/slurm.conf")
CONTROLLER_PORT, NODE_PORT = 16817, 17001

CONFIG = """\
ClusterName=winnow
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge/socket,cred_expire=20
CredType=cred/munge
MpiDefault=none
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool/%n
SlurmctldPidFile={root}/pid/slurmctld
SlurmdPidFile={root}/pid/%n
SlurmctldLogFile={root}/log/slurmctld.log
SlurmdLogFile={root}/log/%n.log
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
SlurmdParameters=config_overrides
GresTypes=gpu
ReturnToService=2
SlurmctldTimeout=30
SlurmdTimeout=10
InactiveLimit=0
KillWait=3
UnkillableStepTimeout=30
MinJobAge=86400
BatchStartTimeout=10
MessageTimeout=10
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
{nodes}
PartitionName=cpu Nodes=ALL Default=YES MaxTime=7-00:00:00 DefaultTime=10 DefMemPerCPU=200 State=UP
PartitionName=gpu Nodes=ALL MaxTime=7-00:00:00 DefaultTime=10 DefMemPerCPU=200 State=UP
"""


def missing() -> str | None:
    """Return why no cluster can be started here, or None."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"{', '.join(absent)} not installed: apt-get install {' '.join(PACKAGES)}"
    if os.geteuid() != 0:
        return "Slurm's daemons must be started as root"
    if LINK.exists() and not str(LINK.resolve()).startswith("/tmp/"):
        return f"{LINK} belongs to another cluster"
    return None


def namespaces_allowed() -> bool:
    return (
        subprocess.run(["unshare", "--net", "--uts", "true"], check=False, capture_output=True).returncode
        == 0
    )


@dataclass
class Cluster:
    """The cluster; start it with `start`, run commands in its network with `run`."""

    root: Path
    nodes: tuple[str, ...] = ("w1", "w2", "w3")
    processors: int = 4
    memory_mb: int = 12000
    gpus: int = 2
    isolated: bool = field(default_factory=namespaces_allowed)
    holder: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    # -- life ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start everything; returns when all nodes are idle. `root` must be empty, its path short."""
        self.root.chmod(0o755)
        for name in ("munge", "state", "spool", "pid", "log", "dev"):
            (self.root / name).mkdir(parents=True)
        if self.isolated:
            self._cut_off()
        self._start_munge()
        self._configure()
        self.start_controller()
        for node in self.nodes:
            self.start_node(node)

    def _cut_off(self) -> None:
        # A second address of lo: with 127.0.0.1 alone, name resolution finds no address to listen on.
        network = "ip link set lo up && ip address add 10.99.0.1/32 dev lo && exec sleep infinity"
        self.holder = subprocess.Popen(["unshare", "--net", "sh", "-c", network])
        wait_until(self._loopback_is_up, 10, "a network namespace for the cluster")

    def stop(self) -> None:
        """Cancel all jobs, end every daemon and remove what was written outside of `root`."""
        self.run("scancel", "--full", "--user=root", check=False)
        time.sleep(0.5)
        for node in self.nodes:
            self.crash(node)
        for name in ("slurmctld", "munged"):
            self._end(name, signal.SIGKILL)
        if self.holder:
            self.holder.kill()
            self.holder.wait()
        if LINK.is_symlink():
            LINK.unlink()

    def command(self, *words: str) -> list[str]:
        """Return a command that runs in the cluster's network, where nothing but loopback is."""
        if self.holder is None:
            return list(words)
        return ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net", *words]

    def run(self, *words: str, check: bool = True) -> str:
        """Run one of Slurm's commands; returns what it prints."""
        done = subprocess.run(
            self.command(*words), check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stdout}")
        return done.stdout

    # -- parts --------------------------------------------------------------------------------------

    def start_controller(self) -> None:
        self.run("slurmctld", "-f", str(self.root / "slurm.conf"))
        wait_until(lambda: "UP" in self.run("scontrol", "ping", check=False), 30, "slurmctld")

    def stop_controller(self) -> None:
        """Kill the controller, as a crash would."""
        self._end("slurmctld", signal.SIGKILL)

    def start_node(self, node: str) -> None:
        """Start one node and wait until it takes jobs; its host name is its own."""
        (self.root / "spool" / node).mkdir(exist_ok=True)
        start = f"slurmd -f {self.root}/slurm.conf -N {node}"
        named = ["unshare", "--uts", "sh", "-c", f"hostname {node} && exec {start}"]
        self.run(*(named if self.isolated else start.split()))
        wait_until(lambda: self._takes_jobs(node), 60, lambda: self.run("scontrol", "show", "node", node))

    def _takes_jobs(self, node: str) -> bool:
        """Look whether a node is up. Slurm drains one whose job took too long to die, on a busy machine."""
        state = self.state(node)
        if "drain" in state:
            self.run("scontrol", "update", f"nodename={node}", "state=resume", check=False)
        return state in ("idle", "mixed", "allocated")

    def crash(self, node: str) -> None:
        """Kill everything of one node at once: its daemon, its step daemons and its jobs' processes."""
        self._end(node, signal.SIGKILL)
        log = str(self.root / "log" / f"{node}.log")
        for steps_only in (True, False):
            for process in Path("/proc").glob("[0-9]*"):
                if _belongs(process, node, log, steps_only):
                    _kill(int(process.name), signal.SIGKILL)

    def state(self, node: str) -> str:
        return self.run("sinfo", "-h", "-N", "-p", "cpu", "-n", node, "-o", "%T", check=False).strip(" *\n")

    # -- jobs ---------------------------------------------------------------------------------------

    def jobs(self, states: str = "all") -> list[dict[str, str]]:
        """Return the jobs that the controller still knows; `comment` names rule and artefact."""
        names = ("id", "state", "node", "reason", "limit", "memory", "comment")
        listed = self.run("squeue", "-h", "-t", states, "-o", "%A|%T|%N|%r|%l|%m|%k", check=False)
        return [
            dict(zip(names, line.split("|"), strict=True))
            for line in listed.splitlines()
            if line.count("|") == len(names) - 1
        ]

    # -- inside -------------------------------------------------------------------------------------

    def _loopback_is_up(self) -> bool:
        return "10.99.0.1" in self.run("ip", "-br", "address", "show", "lo", check=False)

    def _start_munge(self) -> None:
        folder = self.root / "munge"
        key = folder / "key"
        key.write_bytes(os.urandom(1024))
        for path in (folder, key):
            shutil.chown(path, "munge", "munge")
        key.chmod(0o400)
        folder.chmod(0o755)
        files = {
            "key-file": "key",
            "socket": "socket",
            "pid-file": "pid",
            "log-file": "log",
            "seed-file": "seed",
        }
        options = [f"--{option}={folder / name}" for option, name in files.items()]
        self.run("setpriv", "--reuid=munge", "--regid=munge", "--init-groups", "--", "munged", *options)
        (self.root / "pid" / "munged").symlink_to(folder / "pid")
        wait_until((folder / "socket").exists, 10, "munged")

    def _configure(self) -> None:
        cards = [self.root / "dev" / f"gpu{i}" for i in range(self.gpus)]
        for card in cards:
            card.symlink_to("/dev/null")
        host = socket.gethostname().split(".")[0]
        lines = [
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={NODE_PORT + i} "
            f"CPUs={self.processors} RealMemory={self.memory_mb} Gres=gpu:{self.gpus} State=UNKNOWN"
            for i, node in enumerate(self.nodes)
        ]
        (self.root / "slurm.conf").write_text(
            CONFIG.format(host=host, root=self.root, controller_port=CONTROLLER_PORT, nodes="\n".join(lines))
        )
        devices = f"{self.root}/dev/gpu[0-{self.gpus - 1}]"
        gres = [f"NodeName={node} Name=gpu File={devices}" for node in self.nodes]
        (self.root / "gres.conf").write_text("\n".join(["AutoDetect=off", *gres, ""]))
        # The executor's job step drops SLURM_CONF: the configuration must lie where Slurm looks for it.
        LINK.parent.mkdir(parents=True, exist_ok=True)
        LINK.unlink(missing_ok=True)
        LINK.symlink_to(self.root / "slurm.conf")

    def _end(self, name: str, how: signal.Signals) -> None:
        file = self.root / "pid" / name
        if not file.exists():
            return
        process = int(file.read_text())
        _kill(process, how)
        wait_until(lambda: not _alive(process), 10, f"the end of {name}")
        file.unlink()


def wait_until(condition: Callable[[], bool], seconds: float, what: str | Callable[[], str]) -> None:
    """Wait until the condition holds; says what was waited for when it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not after {seconds:.0f} s: {what if isinstance(what, str) else what()}")
        time.sleep(0.1)


def _alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (OSError, IndexError):
        return False
    return state not in "ZX"


def _kill(process: int, how: signal.Signals) -> None:
    try:
        os.kill(process, how)
    except ProcessLookupError:
        return


def _belongs(process: Path, node: str, log: str, steps_only: bool) -> bool:
    """Whether a process is a step daemon of the node (it has the node's log open) or of its jobs."""
    try:
        if (process / "comm").read_text().startswith("slurmstepd"):
            return any(os.readlink(handle) == log for handle in (process / "fd").iterdir())
        words: Sequence[bytes] = () if steps_only else (process / "environ").read_bytes().split(b"\0")
        return f"SLURMD_NODENAME={node}".encode() in words
    except OSError:
        return False
