"""Test sets in clip-benchmark's layout: fetched from a mirror and from a hub, checked, and measured on."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from parallel_cases import TOWERS
from PIL import Image
from plan_inputs import change, copy_inputs

from winnow import registry
from winnow.data.dataset import Dataset
from winnow.data.hub import SET, damaged_files, fetch_set
from winnow.data.prepare import prepare
from winnow.errors import UserError
from winnow.evaluate import zero_shot
from winnow.evaluate.engine.run import evaluate_all
from winnow.plan.catalogue import DatasetEntry, load_catalogue
from winnow.plan.code import ROOT
from winnow.plan.estimate import estimate_downloads
from winnow.plan.plan import load_plan
from winnow.plan.specs import EvaluateSpec, Plugged
from winnow.rehearse.cases import TrainCase
from winnow.rehearse.standin import Look, filling, make_data, run
from winnow.store import building, read_json
from winnow.train.engine.image_text import class_features
from winnow.train.engine.run import train_all
from winnow.train.engine.trained import load_trained

CLASSES, TEMPLATES = ["zero", "one", "two", "three", "four", "five"], ["a {c}", "the digit {c}"]
PER_SHARD = 20
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(256, size=(2 * PER_SHARD, 8, 8), dtype=np.uint8)
LABELS = RNG.integers(len(CLASSES), size=2 * PER_SHARD)


def entry(**changes: Any) -> DatasetEntry:
    fields: dict[str, Any] = {
        "name": "wds_toy", "title": "Toy", "kind": "benchmark", "licence": "none", "reader": "clip_benchmark",
        "homepage": "https://example.org", "hub": {"repository": "someone/wds_toy"},
        "splits": {"test": len(LABELS)}, "n_classes": len(CLASSES),
    }  # fmt: skip
    return DatasetEntry.model_validate(fields | changes)


def shard(samples: list[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in samples:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def contents() -> dict[str, bytes]:
    """Return the files of a set by their place in the repository, with some that nobody asks for."""
    found = {
        "classnames.txt": "\n".join(CLASSES).encode(),
        "zeroshot_classification_templates.txt": "\n".join(TEMPLATES).encode(),
        "test/nshards.txt": b"2",
        "train/nshards.txt": b"1",
        "README.md": b"about",
    }
    for number in range(2):
        rows = range(number * PER_SHARD, (number + 1) * PER_SHARD)
        samples = [(f"s{row:03}.png", png(PIXELS[row])) for row in rows]
        samples += [(f"s{row:03}.cls", str(LABELS[row]).encode()) for row in rows]
        found[f"test/{number}.tar"] = shard(sorted(samples))
    return found


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    for name, content in contents().items():
        path = tmp_path / "mirror" / "wds_toy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "mirror"


@contextmanager
def hub(files: dict[str, bytes], asked: list[str]) -> Iterator[str]:
    """Serve a repository as Hugging Face does, and note which files are asked for."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    listed = [
        {"type": "file", "path": name, "oid": sha256(content).hexdigest()[:40], "size": len(content)}
        for name, content in files.items()
    ]

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            path = self.path.split("?")[0]
            marker = f"/datasets/someone/wds_toy/resolve/{commit}/"
            if path.startswith(marker):
                name = path.removeprefix(marker)
                if body:
                    asked.append(name)
                self.send(
                    files[name],
                    {"ETag": f'"{sha256(files[name]).hexdigest()}"', "X-Repo-Commit": commit},
                    body,
                )
            elif "/tree/" in path:
                self.send(json.dumps(listed).encode(), {"Content-Type": "application/json"}, body)
            elif path.startswith("/api/datasets/someone/wds_toy"):
                about = {
                    "id": "someone/wds_toy",
                    "sha": commit,
                    "siblings": [{"rfilename": n} for n in files],
                }
                self.send(json.dumps(about).encode(), {"Content-Type": "application/json"}, body)
            else:
                self.send_error(404)

        def send(self, content: bytes, headers: dict[str, str], body: bool) -> None:
            self.send_response(200)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


# -- fetching ----------------------------------------------------------------------------------------


def test_a_set_comes_from_the_mirror_and_a_killed_copy_continues(tmp_path: Path, mirror: Path) -> None:
    (tmp_path / "data" / SET / "test").mkdir(parents=True)
    (tmp_path / "data" / SET / "test" / "0.tar").write_bytes(b"half")
    manifest = fetch_set(entry(), tmp_path / "data", mirror)
    facts = read_json(manifest)
    assert facts["examples"] == 40 and facts["commit"] == "mirror"
    wanted = {name for name in contents() if not name.startswith(("train", "README"))}
    assert set(facts["files"]) == wanted
    for name in wanted:
        assert (tmp_path / "data" / SET / name).read_bytes() == contents()[name]
    assert damaged_files(manifest) == []


def test_a_set_comes_from_the_hub_at_its_commit_without_what_nobody_needs(tmp_path: Path) -> None:
    asked: list[str] = []
    with hub(contents(), asked) as address:
        manifest = fetch_set(entry(), tmp_path / "data", None, endpoint=address)
        facts = read_json(manifest)
        assert facts["commit"].startswith("0123456789") and facts["examples"] == 40
        assert not [name for name in asked if name.startswith(("train", "README"))]
        asked.clear()
        fetch_set(entry(), tmp_path / "data", None, endpoint=address)
        assert asked == [], "what is there is not fetched again"


def test_without_a_network_the_fix_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"wds_toy: someone/wds_toy could not be fetched .*`mirror`"):
        fetch_set(entry(), tmp_path / "data", tmp_path / "mirror", endpoint="http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("test/1.tar", shard([("a.png", b"x"), ("a.pkl", b"x")]), "holds 'a.pkl'; accepted: images"),
        ("test/1.tar", shard([("a.png", b"x")]), "sample 'a' of 1.tar has image alone"),
        ("test/1.tar", b"no tar", "not a test set"),
        ("test/nshards.txt", b"3", "2.tar"),
        ("test/nshards.txt", b"many", "many"),
    ],
)
def test_what_is_not_such_a_set_is_refused(
    tmp_path: Path, mirror: Path, file: str, content: bytes, message: str
) -> None:
    (mirror / "wds_toy" / file).write_bytes(content)
    with pytest.raises(UserError, match=message):
        fetch_set(entry(), tmp_path / "data", mirror)
    assert not (tmp_path / "data" / "hub.json").exists()


# -- preparing ---------------------------------------------------------------------------------------


def prepared(store: Path, mirror: Path) -> str:
    """Fetch and prepare the set in a store; returns its reference."""
    manifest = fetch_set(entry(), store.parent / "data" / "wds_toy", mirror)
    reference = "prepare/wds_toy-00000000"
    with building(store / reference, {"spec": reference}) as artefact:
        assert artefact is not None
        prepare(entry(), {"hub.json": manifest}, artefact.out)
    return reference


def test_a_prepared_set_has_names_and_prompts_and_no_pixels(tmp_path: Path, mirror: Path) -> None:
    data = Dataset.open(tmp_path / "store" / prepared(tmp_path / "store", mirror))
    assert (data.kind, data.classes, data.counts) == ("benchmark", tuple(CLASSES), {"test": 40})
    assert read_json(data.folder / "dataset.json")["templates"] == TEMPLATES
    assert not list(data.folder.glob("*.npy"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"splits": {"test": 41}}, "splits.test: 41, but the shards hold 40"),
        ({"n_classes": 7}, "n_classes: 7, but classnames.txt names 6"),
    ],
)
def test_a_set_that_is_not_as_stated_is_refused(
    tmp_path: Path, mirror: Path, changes: dict[str, Any], message: str
) -> None:
    manifest = fetch_set(entry(), tmp_path / "data" / "wds_toy", mirror)
    with pytest.raises(UserError, match=message):
        prepare(entry(**changes), {"hub.json": manifest}, tmp_path)


def test_a_set_in_a_shared_store_is_reached_by_the_link_to_its_manifest(tmp_path: Path, mirror: Path) -> None:
    manifest = fetch_set(entry(), tmp_path / "shared" / "wds_toy", mirror)
    (tmp_path / "clone").mkdir()
    (tmp_path / "clone" / "hub.json").symlink_to(manifest)
    assert damaged_files(tmp_path / "clone" / "hub.json") == []
    prepare(entry(), {"hub.json": tmp_path / "clone" / "hub.json"}, tmp_path)
    assert read_json(tmp_path / "dataset.json")["classes"] == CLASSES


def test_a_changed_shard_is_found_and_refused(tmp_path: Path, mirror: Path) -> None:
    manifest = fetch_set(entry(), tmp_path / "data" / "wds_toy", mirror)
    wrong = manifest.parent / SET / "test" / "1.tar"
    wrong.write_bytes(wrong.read_bytes()[:-1] + b"x")
    assert damaged_files(manifest) == [wrong]
    with pytest.raises(UserError, match=r"1\.tar: missing, or not what was fetched"):
        prepare(entry(), {"hub.json": manifest}, tmp_path)


# -- measuring ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", ["1", "8"])
def test_accuracy_is_that_of_the_models_own_features(
    tmp_path: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch, threads: str
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    store, look = tmp_path / "store", Look((8, 8, 3), 3)
    params = registry.load("train", "clip", "test").params(precision="fp32").model_dump(mode="json")
    model = Plugged(name="clip", params=TOWERS["model_params"])
    case = TrainCase(Plugged(name="clip", params=params), model, 1, 16, look)
    data = make_data(store, look, 64)
    run(store, case.spec(), train_all, "cpu")
    protocol = registry.load("evaluate", "zero_shot", "test")
    wanted = protocol.params(recall=(), averages={"group": ("toy",)}).model_dump(mode="json")
    spec = EvaluateSpec(
        seeds=(1,), root_seed=0, data=data, subject=case.reference, budget=None, version=1,
        transfer={"toy": prepared(store, mirror)}, protocol=Plugged(name="zero_shot", params=wanted),
    )  # fmt: skip
    ran = run(store, spec, filling(evaluate_all), "cpu")
    found = {name: row["value"] for name, row in read_json(ran.folder / "s1/metrics.json")["metrics"].items()}

    towers: Any = load_trained(store / case.reference, 1, Dataset.open(store / data)).eval()
    pixels = torch.from_numpy(PIXELS).float().div(255).sub(0.5).div(0.25)[:, None].expand(-1, 3, -1, -1)
    with torch.no_grad():
        images = towers.encode_images(pixels)
    prompts = [template.replace("{c}", "{}") for template in TEMPLATES]
    scores = images @ torch.from_numpy(class_features(towers, CLASSES, prompts)).T
    own = zero_shot.classification(scores.numpy(), LABELS, (5,), "own")
    assert found["toy_zero_shot_accuracy"] == pytest.approx(own["own_accuracy"][0])
    assert found["toy_zero_shot_top5_accuracy"] == pytest.approx(own["own_top5_accuracy"][0])
    assert found["toy_zero_shot_balanced_accuracy"] == pytest.approx(own["own_balanced_accuracy"][0])
    assert found["group_zero_shot_accuracy"] == found["toy_zero_shot_accuracy"]
    assert 0 < own["own_top5_accuracy"][0] < 1


# -- planning ----------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("WINNOW_MIRROR", raising=False)
    copy_inputs(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_only_models_of_images_and_text_are_measured_on_such_sets(tree: Path) -> None:
    change(tree / "suites/sas.yaml", "scales/demo/defaults/transfer", ["wds_dtd"])
    with pytest.raises(UserError, match=r"sas\.yaml.*transfer: 'wds_dtd' is for models of images and text"):
        load_plan(root=tree)


def test_averages_name_datasets_of_transfer(tree: Path) -> None:
    use = {"name": "zero_shot", "params": {"averages": {"all": ["wds_dtd"]}}}
    change(tree / "suites/sas.yaml", "scales/demo/defaults/training/trainer", {"name": "clip"})
    change(tree / "suites/sas.yaml", "scales/demo/defaults/evaluation", use)
    with pytest.raises(UserError, match=r"params\.averages: unknown dataset 'wds_dtd'"):
        load_plan(root=tree)
    change(tree / "suites/sas.yaml", "scales/demo/defaults/transfer", ["wds_dtd"])
    change(tree / "suites/sas.yaml", "metric", "all_zero_shot_accuracy")
    change(tree / "suites/sas.yaml", "figures", [])
    plan = load_plan(root=tree)
    sizes = {found.dataset: found.bytes_to_fetch for found in estimate_downloads(plan)}
    assert sizes == {"digits": 0, "wds_dtd": None}, "of a hub's files nothing is known before they come"


def test_a_test_set_is_no_pool(tree: Path) -> None:
    change(tree / "suites/sas.yaml", "scales/demo/datasets", {"wds_dtd": {}})
    with pytest.raises(UserError, match=r"sas\.yaml.*wds_dtd") as caught:
        load_plan(root=tree)
    assert "\n" not in str(caught.value)


def test_averages_are_of_datasets_of_transfer() -> None:
    needs = zero_shot.needs(zero_shot.ZeroShotParams(averages={"all": ("a", "b"), "one": ("b",)}))
    assert needs["transfer"]["names"] == ["a", "b"]
    view: Any = SimpleNamespace(transfer={})
    assert list(zero_shot._transferred(zero_shot.ZeroShotParams(), view)) == []


def test_the_sets_of_the_catalogue_are_fetched_by_their_own_rule() -> None:
    catalogue = load_catalogue(ROOT / "datasets.yaml")
    sets = [entry for entry in catalogue.values() if entry.kind == "benchmark"]
    assert len(sets) == 17 and all(
        entry.sources() == {"hub.json": f"{entry.name}/hub.json"} for entry in sets
    )
    imagenet = catalogue["wds_imagenet1k"]
    assert imagenet.content()["hub"]["repository"] == "clip-benchmark/wds_imagenet1k"
    assert "hub" not in catalogue["digits"].content()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hub": None}, "go together"),
        ({"splits": {"validation": 5}}, "lacks 'test'"),
        ({"shape": [8, 8, 3]}, "no `shape`"),
    ],
)
def test_mistakes_in_an_entry_are_told(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        entry(**changes)
