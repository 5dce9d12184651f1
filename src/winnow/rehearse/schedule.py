"""How long a graph of jobs takes with some GPUs and processor slots."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """A job that takes one processor slot and perhaps a GPU; `after` names those it waits for."""

    seconds: float
    gpu: bool
    after: tuple[str, ...]


def longest_path(tasks: Mapping[str, Task]) -> list[str]:
    """Return the chain of jobs that no number of machines can shorten, first job first."""
    below = _below(tasks)
    found: list[str] = []
    ready = [name for name, task in tasks.items() if not any(a in tasks for a in task.after)]
    users = _users(tasks)
    while ready:
        found.append(max(ready, key=lambda name: below[name]))
        ready = users[found[-1]]
    return found


def makespan(tasks: Mapping[str, Task], gpus: int, slots: int) -> float:
    """Return the seconds until the last job ends: whenever there is room, the job with the longest chain
    of others after it starts.

    With one GPU it is at least the sum of the jobs that need one; with ample room the longest chain.
    """
    below, users = _below(tasks), _users(tasks)
    waiting = {name: sum(a in tasks for a in task.after) for name, task in tasks.items()}
    ready: dict[bool, list[tuple[float, str]]] = {True: [], False: []}

    def release(name: str) -> None:
        heapq.heappush(ready[tasks[name].gpu], (-below[name], name))

    for name, count in waiting.items():
        if count == 0:
            release(name)
    running: list[tuple[float, str]] = []
    now, free_gpus, free_slots = 0.0, gpus, slots
    while ready[True] or ready[False] or running:
        while free_slots and (kind := _next(ready, free_gpus)) is not None:
            _, name = heapq.heappop(ready[kind])
            heapq.heappush(running, (now + tasks[name].seconds, name))
            free_slots, free_gpus = free_slots - 1, free_gpus - kind
        if not running:
            raise ValueError("jobs that need a GPU have none")
        now, name = heapq.heappop(running)
        free_slots, free_gpus = free_slots + 1, free_gpus + tasks[name].gpu
        for user in users[name]:
            waiting[user] -= 1
            if waiting[user] == 0:
                release(user)
    return now


def _next(ready: Mapping[bool, Sequence[tuple[float, str]]], free_gpus: int) -> bool | None:
    """Return which queue the next job comes from: the one whose head is more urgent, if it has room."""
    kinds = [kind for kind in (True, False) if ready[kind] and (free_gpus or not kind)]
    return min(kinds, key=lambda kind: ready[kind][0]) if kinds else None


def _users(tasks: Mapping[str, Task]) -> dict[str, list[str]]:
    users: dict[str, list[str]] = defaultdict(list)
    for name, task in tasks.items():
        for needed in task.after:
            if needed in tasks:
                users[needed].append(name)
    return users


def _below(tasks: Mapping[str, Task]) -> dict[str, float]:
    """Return the seconds from each job's start to the end of the longest chain after it."""
    users, below = _users(tasks), dict[str, float]()
    for start in tasks:
        stack = [start]
        while stack:
            name = stack[-1]
            open_users = [user for user in users[name] if user not in below]
            if open_users:
                stack += open_users
                continue
            stack.pop()
            below[name] = tasks[name].seconds + max((below[user] for user in users[name]), default=0.0)
    return below
