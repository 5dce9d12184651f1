"""Every method has a page, and the index of methods says what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from winnow import registry

PAGES = Path(__file__).parents[2] / "docs" / "methods"
INDEX = {
    match[1]: [cell.strip() for cell in match[2].split("|")]
    for match in re.finditer(r"^\| \[?`(\w+)`[^|]*\|(.*)\|$", (PAGES / "README.md").read_text(), re.M)
}
NAMES = registry.names("select")


def test_the_index_lists_every_method_once() -> None:
    assert sorted(INDEX) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_index_agrees_with_the_code(name: str) -> None:
    plugin = registry.load("select", name, "test")
    params = plugin.params(**plugin.variants[plugin.default_variant])
    _, variants, signals, nested = INDEX[name]
    expected = ", ".join(plugin.variants) if list(plugin.variants) != ["default"] else "-"
    assert variants == expected
    assert signals == (", ".join(f"`{signal}`" for signal in plugin.needs(params)) or "-")
    assert nested == ("yes" if plugin.nested(params) else "no")


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("full", "random")])
def test_every_method_has_a_page_that_names_its_variants(name: str) -> None:
    text = (PAGES / f"{name}.md").read_text()
    missing = [v for v in registry.load("select", name, "test").variants if v not in text and v != "default"]
    assert not missing, f"docs/methods/{name}.md does not speak of {missing}"
