"""Starting a training job as several processes: torchrun on this machine, or on each node of a Slurm job.

`python -m winnow.train.engine.launch DEVICE ...` takes torchrun's words and does what torchrun does. It also
claims a GPU for each of the processes, and says in one line why one of them was ended from outside.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Mapping, Sequence

from winnow.errors import UserError, run_main
from winnow.train.engine.cards import claim_cards


def start_processes(count: int, device: str) -> None:
    """Replace this process by `count` processes that run the same command; they return from here at once.

    0 and 1 change nothing. Inside a Slurm job of several nodes every node runs an equal share of them.
    device: auto, cpu or cuda, where each of them has a GPU of its own.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ or count in (0, 1):
        return
    if count < 0:
        raise UserError(f"--processes: {count}; accepted: 1 or more")
    if ":" in device:
        raise UserError(
            f"device: '{device}' is one GPU, which {count} processes cannot share; accepted: cuda"
        )
    command = [*torchrun(count, device, nodes_of_job()), *sys.argv]
    os.execvpe(command[0], command, _outside_of_steps(os.environ))


def torchrun(count: int, device: str, nodes: Sequence[str]) -> list[str]:
    """Return the command that runs `count` processes of what is appended to it.

    nodes: those of a Slurm job, the first of which is where the processes meet.
    """
    agent = [sys.executable, "-m", "winnow.train.engine.launch", device]
    if len(nodes) < 2:
        return [*agent, "--standalone", f"--nproc-per-node={count}"]
    each, rest = divmod(count, len(nodes))
    if rest:
        raise UserError(
            f"--processes: {count} cannot be shared equally by {len(nodes)} nodes; "
            f"accepted: multiples of {len(nodes)}"
        )
    tasks = [f"--nodes={len(nodes)}", f"--ntasks={len(nodes)}", "--ntasks-per-node=1"]
    tasks += [f"--cpus-per-task={os.environ.get('OMP_NUM_THREADS', '1')}"]
    job = os.environ["SLURM_JOB_ID"]
    meet = ["--rdzv-backend=c10d", f"--rdzv-id={job}", f"--rdzv-endpoint={_address(nodes[0])}:{_port(job)}"]
    start = ["srun", "--overlap", "--kill-on-bad-exit=1", *tasks]
    return [*start, *agent, f"--nnodes={len(nodes)}", f"--nproc-per-node={each}", *meet]


def nodes_of_job() -> list[str]:
    """Return the nodes of the Slurm job around this process; none without one.

    The controller is asked: what Snakemake leaves in the environment is about one step of the job.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if job is None or shutil.which("srun") is None:
        return []
    (names,) = _answer("squeue", "--noheader", f"--jobs={job}", "--format=%N")
    return _answer("scontrol", "show", "hostnames", names)


def _address(node: str) -> str:
    """Return the address at which Slurm itself finds the node."""
    facts = dict(fact.split("=", 1) for fact in _answer("scontrol", "show", "node", node) if "=" in fact)
    return facts["NodeAddr"]


def _outside_of_steps(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without what would bind a new step of the Slurm job to the one around it."""
    kept = ("SLURM_JOB_ID", "SLURM_CONF")
    return {
        name: value for name, value in environment.items() if name in kept or not name.startswith("SLURM_")
    }


def _answer(*words: str) -> list[str]:
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"--processes: '{' '.join(words)}' fails: {done.stderr.strip()}")
    return done.stdout.split()


def _port(job: str) -> int:
    """Return a port that two jobs on one node hardly share, below those that systems hand out."""
    return 20000 + zlib.crc32(f"{job} {sys.argv}".encode()) % 10000


def _claim(device: str, count: int) -> None:
    """Claim the cards of this node's processes all at once: two jobs with a half each would wait for ever."""
    import torch

    present = torch.cuda.device_count()
    if device == "cpu" or (device == "auto" and not present):
        return
    if count > present:
        raise UserError(
            f"--processes: {count} on a node of {present} GPUs; accepted: 1 to {present}, or device: cpu"
        )
    claim_cards(present, count)


def main() -> None:
    logging.disable(logging.CRITICAL)  # torchrun's account of a failure, stack traces included
    from torch.distributed import DistError
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError
    from torch.distributed.run import parse_args, run

    device, *words = sys.argv[1:]
    arguments = parse_args(words)  # type: ignore[no-untyped-call]
    _claim(device, int(arguments.nproc_per_node))
    if not arguments.standalone and "SLURMD_NODENAME" in os.environ:
        arguments.local_addr = _address(os.environ["SLURMD_NODENAME"])
    try:
        run(arguments)  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:
            raise UserError(
                f"training process {rank} was ended by {failure.signal_name()}, and the others with it. "
                "SIGKILL is mostly a lack of memory: ask for more mem_mb. The same command resumes."
            ) from error
        sys.exit(failure.exitcode)
    except SignalException as error:
        sys.exit(128 + error.sigval)
    except (RendezvousError, DistError, OSError) as error:
        raise UserError(
            f"the processes did not meet at {arguments.rdzv_endpoint}: {error}. Can all nodes reach it?"
        ) from error


if __name__ == "__main__":
    run_main(main)
