"""The report in a real browser: silent console, no request, sorting, filtering, phone, dark, contrast."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from tree import Tree

from report_sample import sample_report

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
KEYS = """
const [table, column] = arguments;
return [...table.tBodies].map((body) => [...body.rows]
  .filter((row) => !row.classList.contains("group")).map((row) => row.cells[column].dataset.key));
"""
# WCAG 2.1, 1.4.3: contrast of every visible piece of text with the nearest opaque background behind it.
CONTRAST = """
const parse = (color) => color.match(/[\\d.]+/g).map(Number);
const light = (color) => {
  const [r, g, b] = parse(color).slice(0, 3).map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (node) => {
  for (let at = node; at; at = at.parentElement) {
    const color = getComputedStyle(at).backgroundColor;
    if (parse(color)[3] !== 0) return color;
  }
  return "rgb(255, 255, 255)";
};
const found = [];
for (const node of document.querySelectorAll("body *")) {
  const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
  if (!own || !node.getClientRects().length || node.closest("script, style, .skip")) continue;
  const style = getComputedStyle(node);
  const [a, b] = [light(style.color), light(behind(node))].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  const name = `${node.tagName}.${node.className}`;
  if (ratio < 4.5) found.push(`${name} ${ratio.toFixed(2)} ${node.textContent.slice(0, 30)}`);
}
return found;
"""


@contextmanager
def browser() -> Iterator[webdriver.Chrome]:
    """Start a fresh headless Chromium; where it is not installed skip, but fail under CI."""
    programs = [shutil.which("chromium"), shutil.which("chromedriver")]
    if None in programs:
        missing = "chromium and chromedriver are not both installed (Debian: chromium, chromium-driver)"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    options = webdriver.ChromeOptions()
    options.binary_location = str(programs[0])
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(programs[1])))
        try:
            yield driver
        finally:
            driver.quit()


def view(driver: webdriver.Chrome, path: Path, width: int = 1280, scheme: str = "light") -> None:
    """Open the page at a width in CSS pixels and a colour scheme, with every details element open."""
    size = {
        "width": width,
        "height": 800,
        "deviceScaleFactor": 1,
        "mobile": width < 600,
    }
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    wishes = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
    features = [{"name": name, "value": value} for name, value in wishes.items()]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    driver.get(path.resolve().as_uri())
    driver.execute_script("for (const item of document.querySelectorAll('details')) item.open = true;")


def check_page(path: Path, columns: int | None = None) -> None:
    """Run every check of this module on one report, that of sorting on as many columns of each table."""
    with browser() as driver:
        view(driver, path)
        check_tables_sort(driver, columns)
        check_filter(driver)
        check_keyboard(driver)
        for width in (360, 390, 768, 1280):
            view(driver, path, width)
            wide = driver.execute_script("return document.documentElement.scrollWidth")
            assert wide <= width, f"the page is {wide} px wide in a window of {width} px"
        check_schemes(driver, path)
        check_silence(driver, path)


def check_tables_sort(driver: webdriver.Chrome, columns: int | None) -> None:
    """Sort each table's numeric columns by click and by keyboard and compare with Python's order."""
    tables = driver.find_elements(By.CSS_SELECTOR, "table.data")
    assert tables, "the page has no table"
    for table in tables:
        heads = enumerate(table.find_elements(By.CSS_SELECTOR, "thead th"))
        numeric = [(column, head) for column, head in heads if head.get_attribute("data-numeric") is not None]
        for column, head in numeric[:columns]:
            button = head.find_element(By.TAG_NAME, "button")
            before = keys(driver, table, column)
            driver.execute_script(
                "arguments[0].scrollIntoView({block: 'center', inline: 'center'})",
                button,
            )
            button.click()
            assert head.get_attribute("aria-sort") == "ascending"
            assert keys(driver, table, column) == [ordered(body, False) for body in before]
            button.send_keys(Keys.ENTER)
            assert head.get_attribute("aria-sort") == "descending"
            assert keys(driver, table, column) == [ordered(body, True) for body in before]
            button.send_keys(Keys.SPACE)
            assert head.get_attribute("aria-sort") == "ascending"
        marked = table.find_elements(By.CSS_SELECTOR, "thead th:not([aria-sort='none'])")
        assert len(marked) <= 1, "more than one column says that the table is sorted by it"


def keys(driver: webdriver.Chrome, table: WebElement, column: int) -> list[list[str]]:
    """Return the sort keys of a column, one list per group of rows."""
    found: list[list[str]] = driver.execute_script(KEYS, table, column)
    return found


def ordered(values: list[str], reverse: bool) -> list[str]:
    """Return keys in numeric order, missing ones last."""
    present = sorted((value for value in values if value), key=float, reverse=reverse)
    return present + [""] * (len(values) - len(present))


def check_filter(driver: webdriver.Chrome) -> None:
    """Type the last row's name into each filter box: what lacks it in name and group goes, and returns."""
    for tools in driver.find_elements(By.CSS_SELECTOR, ".tools"):
        table = driver.find_element(By.ID, str(tools.get_attribute("data-for")))
        rows = table.find_elements(By.CSS_SELECTOR, "tbody tr:not(.group)")
        word = str(rows[-1].find_element(By.CSS_SELECTOR, "th").get_attribute("textContent"))
        box = tools.find_element(By.TAG_NAME, "input")
        box.send_keys(word)
        left = driver.execute_script(
            "return [...arguments[0].querySelectorAll('tbody tr:not(.group)')].filter((row) => !row.hidden)"
            ".map((row) => (row.parentElement.querySelector('.group')?.textContent ?? '') + row.textContent)",
            table,
        )
        assert left and all(part.lower() in text.lower() for text in left for part in word.split())
        assert tools.find_element(By.CLASS_NAME, "shown").text == f"{len(left)} of {len(rows)} rows"
        box.send_keys(Keys.CONTROL, "a")
        box.send_keys(Keys.DELETE)
        assert tools.find_element(By.CLASS_NAME, "shown").text == f"{len(rows)} of {len(rows)} rows"


def check_keyboard(driver: webdriver.Chrome) -> None:
    """The first stop is the skip link, it leads to the content, and what has the focus is outlined."""
    driver.execute_script("document.activeElement.blur(); window.scrollTo(0, 0);")
    driver.refresh()
    driver.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    first = driver.switch_to.active_element
    assert first.get_attribute("class") == "skip"
    assert first.value_of_css_property("outline-style") == "solid"
    first.send_keys(Keys.ENTER)
    assert driver.switch_to.active_element.get_attribute("id") == "main"
    unreachable = driver.execute_script(
        "return [...document.querySelectorAll('.scroll')].filter((box) => box.tabIndex !== 0).length"
    )
    assert unreachable == 0, "a scrolling box cannot be reached by keyboard"


def check_schemes(driver: webdriver.Chrome, path: Path) -> None:
    """Light and dark have different grounds, enough contrast everywhere, and light cards for figures."""
    grounds: dict[str, list[int]] = {}
    for scheme in ("light", "dark"):
        view(driver, path, scheme=scheme)
        color = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
        grounds[scheme] = [int(part) for part in color.strip("rgb()").split(",")]
        assert driver.execute_script(CONTRAST) == []
        for card in driver.find_elements(By.CSS_SELECTOR, ".card"):
            assert card.value_of_css_property("background-color") in (
                "rgba(255, 255, 255, 1)",
                "rgb(255, 255, 255)",
            )
    assert min(grounds["light"]) > 230 and max(grounds["dark"]) < 40


def _of_the_start_tab(request: dict[str, Any]) -> bool:
    return str(request["documentURL"]).startswith("chrome://")


def log(driver: webdriver.Chrome, kind: str) -> list[dict[str, Any]]:
    """Return and empty one of the browser's logs."""
    return cast("list[dict[str, Any]]", driver.get_log(kind))  # type: ignore[no-untyped-call]


def check_silence(driver: webdriver.Chrome, path: Path) -> None:
    """Nothing was printed to the console, and no request went anywhere but to the file itself."""
    assert log(driver, "browser") == []
    requests = [
        event["params"]["request"]["url"]
        for event in (json.loads(entry["message"])["message"] for entry in log(driver, "performance"))
        if event["method"] == "Network.requestWillBeSent" and not _of_the_start_tab(event["params"])
    ]
    page = path.resolve().as_uri()
    assert any(url == page for url in requests), "the log of requests is empty"
    assert [url for url in requests if not url.startswith((page, "data:"))] == []


def test_sample_report_in_a_browser(tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    path.write_text(sample_report(tmp_path), encoding="utf-8")
    check_page(path)


def test_demo_report_in_a_browser(demo: Tree) -> None:
    check_page(demo.store / "report" / "index.html", columns=1)


def test_numbers_do_not_sort_as_text(tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    path.write_text(sample_report(tmp_path), encoding="utf-8")
    with browser() as driver:
        view(driver, path)
        table = driver.find_element(By.ID, "sas-provenance")
        heads: list[Any] = table.find_elements(By.CSS_SELECTOR, "thead th")
        column = [head.text for head in heads].index("written")
        heads[column].find_element(By.TAG_NAME, "button").click()
        (found,) = keys(driver, table, column)
        assert found == sorted(found, key=float) != sorted(found)
