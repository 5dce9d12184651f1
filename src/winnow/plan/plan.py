"""The plan object: what the Snakefile asks for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from winnow.canonical import canonical_json, sha256_text
from winnow.errors import UserError, unknown
from winnow.plan.catalogue import DatasetEntry, load_catalogue
from winnow.plan.code import ROOT, code_digest, figure_options
from winnow.plan.config import RESULTS, Config, load_config
from winnow.plan.expand import expand
from winnow.plan.graph import Graph, Node, cells_text
from winnow.plan.groups import grouped
from winnow.plan.metrics import check_metrics
from winnow.plan.specs import PrepareSpec, Ref
from winnow.plan.suite import Suite, load_suite
from winnow.plan.yamlfile import load_yaml
from winnow.store import stored_name

TABLES = ("metrics.parquet", "summary.parquet", "cost.parquet", "reproduction.parquet", "claims.json")
STAGES = ("prepare", "train", "signals", "selection", "distill", "evaluate")


@dataclass(frozen=True)
class Plan:
    """All jobs of the configured suites at the configured scale; paths are relative to the clone."""

    config: Config
    catalogue: Mapping[str, DatasetEntry]
    suites: Mapping[str, Suite]
    graph: Graph

    # -- artefact stages ------------------------------------------------------------------------

    def node(self, stage: str, identity: str) -> Node:
        """Return the job of an artefact id; an id that the plan does not have is a user's mistake."""
        reference = f"{stage}/{identity}"
        if reference not in self.graph.nodes:
            raise UserError(
                f"{reference}: no such artefact in this plan; `python scripts/plan.py --jobs` lists them"
            )
        return self.graph.nodes[reference]

    def inputs(self, stage: str, identity: str) -> dict[str, Any]:
        """Return the paths that a job reads, by name."""
        spec = self.node(stage, identity).spec
        if isinstance(spec, PrepareSpec):
            return {"files": self.sources(spec.dataset)}
        return {name: self.path(reference) for name, reference in spec.inputs().items()}

    def spec(self, stage: str, identity: str) -> str:
        return self.node(stage, identity).text

    def plugins(self, stage: str, identity: str) -> tuple[str, ...]:
        """Return the modules that a job loads by name."""
        node = self.node(stage, identity)
        if isinstance(node.spec, PrepareSpec):
            return (f"winnow.data.readers.{self.catalogue[node.spec.dataset].reader}",)
        return tuple(sorted(set(node.plugins)))

    def code(self, stage: str, identity: str) -> str:
        return code_digest(stage, self.plugins(stage, identity))

    def code_with_plugins(self, stage: str, identity: str) -> str:
        """Return a job's `--code`: the digest and the plugins it covers, by which the job checks it."""
        return f"{self.code(stage, identity)}:{','.join(self.plugins(stage, identity))}"

    def group(self, stage: str, identity: str) -> str | None:
        """Return the name that jobs share which a cluster runs as one job."""
        return self._groups.get(f"{stage}/{identity}")

    @cached_property
    def _groups(self) -> dict[Ref, str]:
        return grouped(self.graph)

    def identity(self, reference: Ref, content: Callable[[Ref], str]) -> dict[str, str]:
        """Return what an artefact must be made from, as its manifest states it.

        content: gives the `content_digest` of an input.
        """
        node = self.graph.nodes[reference]
        inputs = {name: content(used) for name, used in node.spec.inputs().items()}
        return {
            "spec": node.text,
            "code": self.code(node.spec.stage, node.id),
            "inputs": canonical_json(inputs),
        }

    def path(self, reference: Ref) -> str:
        """Return where this clone has an artefact, or a link to it."""
        return f"{self._folder}/{reference}"

    @cached_property
    def _folder(self) -> str:
        return str(self.config.scale_folder)

    @cached_property
    def places(self) -> dict[Ref, Path]:
        """Where each artefact itself is: in a shared store, its name there says what code made it."""
        shared = self.config.shared_store
        if shared is None:
            return {reference: Path(self.path(reference)) for reference in self.graph.nodes}
        found: dict[Ref, Path] = {}
        for reference, node in self.graph.nodes.items():  # inputs come first
            stage = node.spec.stage
            uses = {name: found[used].name for name, used in node.spec.inputs().items()}
            name = stored_name(node.id, node.text, self.code(stage, node.id), uses)
            found[reference] = shared / self.config.scale / stage / name
        return found

    # -- downloads ------------------------------------------------------------------------------

    def downloads(self, dataset: str) -> list[str]:
        """Return where this clone has a dataset's files, or links to them."""
        return [str(RESULTS / name) for name in self.download_names(dataset)]

    def sources(self, dataset: str) -> list[str]:
        """Return what the preparation of a dataset reads: its files, or the manifest of its shards."""
        return [str(RESULTS / "data" / place) for place in self.catalogue[dataset].sources().values()]

    def targets(self, dataset: str) -> list[str]:
        """Return all that `download` makes of a dataset."""
        return list(dict.fromkeys([*self.downloads(dataset), *self.sources(dataset)]))

    def target_places(self, dataset: str) -> list[Path]:
        """Return where these themselves are."""
        store = self.config.shared_store or RESULTS
        return [store / Path(target).relative_to(RESULTS) for target in self.targets(dataset)]

    def crawl_inputs(self, dataset: str) -> list[str]:
        """Return the list of a crawl where the catalogue describes it as a file, to be fetched first."""
        crawl, files = self.catalogue[dataset].crawl, self.catalogue[dataset].files
        if crawl is None:
            raise UserError(f"datasets.yaml: {dataset}: has no `crawl`, so there is nothing to crawl.")
        listed = zip(files, self.downloads(dataset), strict=True)
        return [path for file, path in listed if file.name == crawl.list]

    def crawl_spec(self, dataset: str) -> str:
        """Return what a crawl depends on: its settings, not where the list is published."""
        entry = self.catalogue[dataset]
        return canonical_json({"dataset": dataset, "crawl": entry.content().get("crawl")})

    def hub_spec(self, dataset: str) -> str:
        """Return what a fetched test set depends on."""
        entry = self.catalogue[dataset]
        if entry.hub is None:
            raise UserError(f"datasets.yaml: {dataset}: has no `hub`, so there is no test set to fetch.")
        return canonical_json({"dataset": dataset, "hub": entry.content()["hub"]})

    def download_names(self, dataset: str) -> list[str]:
        """Return the paths of a dataset's files below the store."""
        return [f"data/{file.of or dataset}/{file.name}" for file in self.catalogue[dataset].files]

    def download_places(self, dataset: str) -> list[Path]:
        """Return where a dataset's files themselves are."""
        return [(self.config.shared_store or RESULTS) / name for name in self.download_names(dataset)]

    def download_spec(self, dataset: str, name: str) -> str:
        """Return what a downloaded file must be: its name, size and checksums (not where it is from)."""
        files = {file.name: file for file in self.catalogue[dataset].files}
        if name not in files:
            raise unknown(f"file of {dataset}", name, files, "datasets.yaml")
        return canonical_json(files[name].model_dump(mode="json", include={"name", "bytes", "sha256", "md5"}))

    @cached_property
    def datasets(self) -> list[str]:
        specs = (node.spec for node in self.graph.nodes.values())
        return sorted({spec.dataset for spec in specs if isinstance(spec, PrepareSpec)})

    # -- tables, figures, report ----------------------------------------------------------------

    def suite_folder(self, suite: str) -> Path:
        return self.config.scale_folder / "suites" / suite

    def tables(self, suite: str) -> list[str]:
        return [str(self.suite_folder(suite) / table) for table in TABLES]

    def figures(self, suite: str) -> list[str]:
        folder = self.suite_folder(suite) / "figures"
        listed = self.suites[suite].figures_at(self.config.scale)
        return [str(folder / f"{figure.name or figure.figure}.png") for figure in listed]

    def suite_targets(self, suite: str) -> list[str]:
        registry_file = str(self.suite_folder(suite) / "registry" / "registry.json")
        return [
            *self.tables(suite),
            *self.figures(suite),
            registry_file,
            str(self.suite_folder(suite) / "report.html"),
            *([str(self.suite_folder(suite) / "look" / "index.html")] if self.suites[suite].look else []),
        ]

    def overall_targets(self) -> list[str]:
        folder = self.config.scale_folder
        return [
            str(folder / name)
            for name in ("metrics.parquet", "claims.json", "index.parquet", "report/index.html")
        ]

    def collect_inputs(self, suite: str) -> list[str]:
        """Return every artefact whose numbers or costs a suite's metrics table holds."""
        cells = self.graph.cells[suite]
        wanted = {r for cell in cells for r in (cell.evaluate, *cell.measures, cell.train, *cell.upstream)}
        return [self.path(reference) for reference in sorted(wanted)]

    def selection_inputs(self, suite: str) -> list[str]:
        cells = self.graph.cells[suite]
        chosen = {reference for cell in cells for reference in (cell.select, cell.synthetic) if reference}
        return [self.path(reference) for reference in sorted(chosen)]

    def prepare_inputs(self, suite: str) -> list[str]:
        return [self.path(reference) for reference in sorted({cell.data for cell in self.graph.cells[suite]})]

    def suite_spec(self, suite: str) -> str:
        """Return the identity of a suite's metrics table: the digest of its cells."""
        return canonical_json({"suite": suite, "cells": sha256_text(cells_text(self.graph.cells[suite]))})

    def evidence_spec(self, suite: str) -> str:
        fields = {"arms", "claims", "reproduction"}
        return canonical_json({"suite": suite} | self.suites[suite].model_dump(mode="json", include=fields))

    def figure_spec(self, suite: str, name: str) -> str:
        """Return one figure's settings in the suite's order, which decides colours and panels' order."""
        known = {figure.name or figure.figure: figure for figure in self.suites[suite].figures}
        if name not in known:
            raise unknown("figure", name, known, f"suites/{suite}.yaml: figures")
        arms = [[key, {"label": arm.label, "role": arm.role}] for key, arm in self.suites[suite].arms.items()]
        figure, where = known[name], f"suites/{suite}.yaml: figures: {name}"
        return json.dumps({"figure": figure.figure, "options": figure.options, "arms": arms, "where": where})

    def figure_code(self, suite: str, name: str) -> str:
        known = {figure.name or figure.figure: figure.figure for figure in self.suites[suite].figures}
        return code_digest("figures", (f"winnow.figures.{known[name]}",))

    def report_spec(self, suites: list[str]) -> str:
        described = {name: self.suites[name].model_dump(mode="json", exclude={"scales"}) for name in suites}
        return canonical_json({"scale": self.config.scale, "suites": described})


def load_plan(values: Mapping[str, Any] | None = None, root: Path = ROOT, check_sources: bool = True) -> Plan:
    """Build the plan from settings (default: `config.yaml`), `datasets.yaml` and `suites/*.yaml`.

    Raises UserError for every mistake in them, when a mirror is set that is not there, when the store is
    a clone's results, and, with `check_sources`, when data can be had from nowhere.
    """
    settings = dict(load_yaml(root / "config.yaml") if values is None else values)
    config = load_config(settings)
    _check_store(config)
    mirror = config.mirror_folder
    if mirror is not None and not mirror.is_dir():
        raise UserError(
            f"config.yaml or WINNOW_MIRROR: mirror: '{mirror}' is not a folder; give an existing one or null."
        )
    catalogue = load_catalogue(root / "datasets.yaml")
    suites = {name: load_suite(suite_file(root, name)) for name in config.suites}
    graph = Graph()
    for suite in suites.values():
        expand(graph, suite, config, catalogue)
        _check_figures(suite)
        check_metrics(suite, config.scale, catalogue)
        _check_baselines(suite, config.scale, {cell.arm for cell in graph.cells[suite.name]})
    plan = Plan(config, catalogue, suites, graph)
    if check_sources:
        require_sources(plan)
    return plan


def _check_store(config: Config) -> None:
    """Refuse a clone's own results as a store: their names do not say what code made them."""
    store = config.shared_store
    for folder in () if store is None else (store, *store.parents):
        if folder.name == RESULTS.name and (folder.parent / "Snakefile").is_file():
            raise UserError(
                f"config.yaml: store: '{store}' lies in the results of a clone. Give a folder of its own."
            )


def suite_file(root: Path, name: str) -> Path:
    """Return the file of a suite; a name that has none is a user's mistake."""
    path = root / "suites" / f"{name}.yaml"
    if not path.is_file():
        raise unknown(
            "suite", name, [p.stem for p in (root / "suites").glob("*.yaml")], "config.yaml: suites"
        )
    return path


def _check_figures(suite: Suite) -> None:
    known = figure_options()
    for place, figure in enumerate(suite.figures):
        where = f"suites/{suite.name}.yaml: figures[{place}]"
        if figure.figure not in known:
            raise unknown("figure", figure.figure, known, where)
        for option in figure.options:
            if option not in known[figure.figure]:
                raise unknown(f"option of {figure.figure}", option, known[figure.figure], f"{where}.options")
        for arm in (*figure.options.get("only", ()), figure.options.get("baseline")):
            if arm is not None and arm not in suite.arms:
                raise unknown("arm", arm, suite.arms, f"{where}.options")


def _check_baselines(suite: Suite, scale: str, run: set[str]) -> None:
    """Refuse figures whose baseline has no cells at this scale: they could not be drawn when all is done."""
    for figure in suite.figures_at(scale):
        baseline = figure.options.get("baseline")
        if baseline is not None and baseline not in run:
            raise UserError(
                f"suites/{suite.name}.yaml: figures: {figure.name or figure.figure}: options.baseline: arm"
                f" '{baseline}' is not run at the scale {scale}. Run it, or name in `scales` of the figure"
                " where it is."
            )


def require_sources(plan: Plan) -> None:
    """Refuse a plan whose data cannot be had: no URL, not in the mirror, not yet downloaded.

    The list of a crawl is asked for by the crawl itself: other suites of the plan can do without.
    """
    mirror = plan.config.mirror_folder
    for dataset in plan.datasets:
        for file, target in zip(plan.catalogue[dataset].files, plan.download_places(dataset), strict=True):
            folder = file.of or dataset
            held = mirror is not None and (mirror / folder / file.name).is_file()
            if not file.urls and not held and not target.is_file():
                place = (
                    f"{mirror / folder / file.name}: missing from the mirror"
                    if mirror
                    else "no mirror is set"
                )
                raise UserError(
                    f"datasets.yaml: {dataset}.files: {file.name} has no public URL and {place}. Set "
                    f"`mirror` in config.yaml or the variable WINNOW_MIRROR to a folder with "
                    f"{folder}/{file.name}."
                )
