"""Jobs: what a checkpoint belongs to, and what a half-finished job leaves behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from winnow.errors import UserError
from winnow.plan.specs import Plugged, SignalSpec
from winnow.stage import Job
from winnow.store import building, read_json, write_json


def upstream(store: Path, content: str) -> None:
    """Build the input artefact `prepare/data-0` with the given content."""
    with building(store / "prepare" / "data-0", {"spec": content, "code": "c"}) as artefact:
        assert artefact is not None
        (artefact.out / "values.txt").write_text(content)
        (artefact.out / "provenance.json").write_text(content * 2)


def job(store: Path, code: str = "c") -> Job[SignalSpec]:
    spec = SignalSpec(
        seeds=(0,), root_seed=0, data="prepare/data-0", signal=Plugged(name="embeddings"), uses={}
    )
    return Job(spec, store, store / "signals" / "x-1", code, "cpu")


def killed(work: Job[SignalSpec]) -> bool:
    """Leave a checkpoint and die; return whether an earlier one was there."""
    with pytest.raises(KeyboardInterrupt), work.building() as artefact:
        assert artefact is not None
        there = (artefact.checkpoints / "step").exists()
        (artefact.checkpoints / "step").write_text("1")
        raise KeyboardInterrupt
    assert not work.output.exists()
    return there


def test_a_checkpoint_serves_only_the_same_spec_code_and_input(tmp_path: Path) -> None:
    upstream(tmp_path, "first")
    assert not killed(job(tmp_path))
    assert killed(job(tmp_path)), "the same job resumes"
    assert not killed(job(tmp_path, code="other")), "other code starts anew"
    assert not killed(job(tmp_path)), "and so does the old code after it"
    upstream(tmp_path, "second")
    assert not killed(job(tmp_path)), "an input with other content starts anew"
    assert killed(job(tmp_path))


def test_a_finished_job_says_what_it_was_made_from(tmp_path: Path) -> None:
    upstream(tmp_path, "first")
    with job(tmp_path).building() as artefact:
        assert artefact is not None
        write_json(artefact.folder(0) / "signal.json", 1)
    done = job(tmp_path).output
    assert set(read_json(done / "manifest.json")["identity"]) == {"spec", "code", "inputs"}
    assert {"wall_s", "peak_rss_gb", "git", "packages", "costs"} <= set(read_json(done / "provenance.json"))


def test_a_missing_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data-0.*not there"), job(tmp_path).building():
        pass
