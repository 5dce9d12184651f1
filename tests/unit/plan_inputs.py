"""A copy of the files that a plan is made from, for tests that edit them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CONFIG, DATASETS, SUITE = "config.yaml", "datasets.yaml", "suites/sas.yaml"
GONE = object()

# The compiled parser where PyYAML has it: many tests read the suite.
LOADER, DUMPER = getattr(yaml, "CSafeLoader", yaml.SafeLoader), getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def copy_inputs(root: Path) -> None:
    """Copy the configuration, the catalogue and the suite `sas` into a folder."""
    (root / "suites").mkdir()
    for name in (CONFIG, DATASETS, SUITE):
        shutil.copy(ROOT / name, root / name)
    text, count = re.subn(r"(?m)^suites: .*$", "suites: [sas]", (root / CONFIG).read_text())
    assert count == 1
    (root / CONFIG).write_text(text)


def read(path: Path) -> dict[str, Any]:
    """Return a YAML file with its aliases written out, so that an edit changes one place."""
    data: dict[str, Any] = json.loads(json.dumps(yaml.load(path.read_text(), LOADER)))
    return data


def write(path: Path, data: object) -> None:
    """Write YAML in the order of the keys."""
    path.write_text(yaml.dump(data, Dumper=DUMPER, sort_keys=False))


def change(path: Path, keys: str, value: object) -> None:
    """Set the key at a path such as `claims/0/id`; GONE removes it, the number after the last appends."""
    data = read(path)
    *parents, last = [int(key) if key.isdigit() else key for key in keys.split("/")]
    place: Any = data
    for key in parents:
        place = place[key]
    if value is GONE:
        del place[last]
    elif isinstance(place, list) and last == len(place):
        place.append(value)
    else:
        place[last] = value
    write(path, data)
