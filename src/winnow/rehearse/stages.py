"""Rehearsing signals, selections and evaluations: the real stages on stand-in arrays of growing size.

A stage is imported where it is used: another one's libraries would count as its memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from winnow import registry
from winnow.plan.specs import EvaluateSpec, Plugged, Ref, SelectSpec, SignalSpec, Spec
from winnow.rehearse.cases import EXAMPLES, EvaluateCase, SelectCase, SignalCase
from winnow.rehearse.clock import Watch, forget_peak, peak_memory
from winnow.rehearse.measures import Fit, StageMeasure
from winnow.rehearse.standin import TEST, Look, Ran, filling, make_data, make_signal, run, without_pixels
from winnow.stage import Job
from winnow.store import read_json

LEAST, LEAST_IMAGES = 64, 4
"""Examples of the first run; a signal that runs a model, which may be large, starts with fewer."""
GROWTH, FEW_ENCODED, FEW_TEXTS, PATIENCE = 4, 2, 16, 3
CHANGED = "changed"
"""What a protocol encodes that is no split: test images that it changed."""
MOST_BYTES = 2**30
"""Of random features: a protocol that costs the same for any n would ask for millions of them at once."""


@dataclass
class _Grown:
    """What runs of growing size showed, per repetition; `taken` leaves out what is extrapolated."""

    seconds: list[tuple[int, float]] = field(default_factory=list)
    taken: list[tuple[int, float]] = field(default_factory=list)
    memory: list[tuple[int, float]] = field(default_factory=list)
    files: list[tuple[int, float]] = field(default_factory=list)
    first: Ran | None = None
    last: Ran | None = None


def measure_signal(case: SignalCase, store: Path, device: str, budget_s: float, timed: bool) -> StageMeasure:
    """Rehearse one signal; the columns of its array are seen on the way."""
    from winnow.signals.engine.run import compute_all

    def spec(n: int, seeds: tuple[int, ...]) -> Spec:
        uses = {f"model{number}": proxy for number, proxy in enumerate(case.proxies)}
        for name, (key, like) in case.arrays.items():
            uses[name] = make_signal(store, key, like, n, seeds)
        data = make_data(store, case.look if case.proxies else without_pixels(case.look), n)
        return SignalSpec(seeds=seeds, root_seed=0, data=data, signal=case.signal, uses=uses)

    least, most = (LEAST_IMAGES, case.n) if case.runs else (EXAMPLES, EXAMPLES)
    if not case.proxies:
        least, most = max(LEAST, 2 * case.look.classes), case.n
    with _few_texts_encoded(store, case.proxies, timed) as texts:
        grown = _grow(store, spec, filling(compute_all), device, budget_s, least, most, texts, case.runs)
    assert grown.last is not None
    values = np.load(grown.last.folder / "s0" / "signal.npy", mmap_mode="r", allow_pickle=False)
    plugin = registry.load("signals", case.signal.name, "rehearsal")
    limits = (float(values.min()), float(values.max()))
    if plugin.groups is not None:
        limits = (0.0, plugin.groups(plugin.params(**case.signal.params), case.look.classes) - 1.0)
    found = _summary(grown, columns=values.shape[1:], dtype=str(values.dtype), range=limits)
    return texts.added(_by_the_example(found) if case.runs else found)


def measure_selection(case: SelectCase, store: Path, device: str, budget_s: float) -> StageMeasure:
    """Rehearse one method, at the plan's own n where that is affordable."""
    from winnow.select.engine.run import select_all

    def spec(n: int, seeds: tuple[int, ...]) -> Spec:
        return SelectSpec(
            seeds=seeds,
            root_seed=0,
            data=make_data(store, without_pixels(case.look), n),
            method=case.method,
            variant=case.variant,
            budget=None if case.fraction is None else max(2, round(case.fraction * n)),
            fraction=case.fraction,
            signals={
                name: make_signal(store, key, like, n, seeds) for name, (key, like) in case.signals.items()
            },
        )

    least = min(case.n, max(LEAST, 4 * case.look.classes))
    grown = _grow(store, spec, filling(select_all), device, budget_s, least, case.n)
    assert grown.last is not None
    facts = read_json(grown.last.folder / "s0" / "facts.json")
    n = grown.seconds[-1][0]
    return _summary(grown, share=facts["n"] / facts["rounds"] / n, rounds=int(facts["rounds"]))


def measure_evaluation(
    case: EvaluateCase, store: Path, device: str, budget_s: float, timed: bool
) -> StageMeasure:
    """Rehearse one protocol: its job on few examples, and a probe on stand-in features of growing size."""
    from winnow.evaluate.engine.run import evaluate_all

    subject = case.trained or _standin_selection(store, case.look)
    spec = EvaluateSpec(
        seeds=(0, 1),
        root_seed=0,
        data=make_data(store, case.look, LEAST),
        subject=subject,
        budget=None if case.trained else LEAST // 2,
        protocol=case.protocol,
        version=case.version,
    )
    plugin = registry.load("evaluate", case.protocol.name, "rehearsal")
    params = plugin.params(**case.protocol.params)
    encodes = "model" in plugin.needs(params)
    forget_peak()
    models = (case.trained,) if encodes and case.trained else ()
    with (
        _few_images_encoded() if encodes else contextlib.nullcontext(),
        _few_texts_encoded(store, models, timed) as texts,
    ):
        ran = run(store, spec, filling(evaluate_all), device)
    grown = _Grown(
        seconds=[(LEAST, ran.cost("1"))],
        memory=[(LEAST, peak_memory())],
        files=[(LEAST, float(ran.bytes_of("s1/*")))],
        first=ran,
        last=ran,
    )
    if not encodes:
        return texts.added(_summary(grown))
    asked = _grow_probe(grown, case, store, plugin, params, budget_s)
    grown.seconds = [(n, seconds + texts.owed / len(spec.seeds)) for n, seconds in grown.seconds]
    splits = tuple(sorted({split for split in asked if split != CHANGED}))
    found = _summary(grown, splits=splits, changed=asked.count(CHANGED))
    return texts.added(_by_the_example(found))


def _by_the_example(measure: StageMeasure) -> StageMeasure:
    """Return a measure of what takes each example by itself: steeper growth is noise of small runs."""
    return replace(measure, seconds=replace(measure.seconds, steepest=1.0))


@contextlib.contextmanager
def _few_images_encoded() -> Iterator[None]:
    """Let models encode a few images for real, and random numbers stand for the others' features.

    Forward passes are counted with the training; those of a large model would take minutes here.
    """
    import torch

    from winnow.train.engine import features as engine

    own = engine.features

    def few(model: Any, images: Any, *rest: Any, **named: Any) -> Any:
        found = own(model, images[:FEW_ENCODED], *rest, **named)
        return torch.cat([found, torch.randn(len(images) - len(found), *found.shape[1:])])

    engine.features = few
    try:
        yield
    finally:
        engine.features = own


@dataclass
class _Texts:
    """Seconds that the texts left out would have taken, and that it took to load what encodes them."""

    owed: float = 0.0
    imported: float = 0.0

    def added(self, found: StageMeasure) -> StageMeasure:
        """Return a measure with what the imports took."""
        first_s, imported_s = found.first_s + self.imported, found.imported_s + self.imported
        return replace(found, first_s=first_s, imported_s=imported_s)


@contextlib.contextmanager
def _few_texts_encoded(store: Path, models: Sequence[Ref], timed: bool) -> Iterator[_Texts]:
    """Let models with a text tower encode a few texts for real; each of the others is taken to cost as much.

    A thousand classes in several prompts each are minutes of a processor, and a second of a card: where
    another card is asked about (not `timed`) they count for nothing.
    """
    texts = _Texts()
    if not any(read_json(store / model / "spec.json")["trainer"]["name"] == "clip" for model in models):
        yield texts
        return
    watch = Watch()
    from winnow.train.engine import image_text as engine

    texts.imported, own = watch.seconds, engine.text_features

    def few(towers: Any, captions: Sequence[str]) -> Any:
        watch = Watch()
        found = own(towers, captions[:FEW_TEXTS])
        left = len(captions) - len(found)
        texts.owed += watch.seconds * left / len(found) if timed else 0.0
        rest = np.random.default_rng(0).standard_normal((left, found.shape[1]), np.float32)
        return np.concatenate([found, rest / np.linalg.norm(rest, axis=1, keepdims=True)])

    engine.text_features = few
    try:
        yield texts
    finally:
        engine.text_features = own


def _standin_selection(store: Path, look: Look) -> Ref:
    from winnow.select.engine.run import select_all

    spec = SelectSpec(
        seeds=(0, 1),
        root_seed=0,
        data=make_data(store, look, LEAST),
        method=Plugged(name="random", params={"quotas": "none"}),
        variant="plain",
        budget=None,
        fraction=None,
        signals={},
    )
    run(store, spec, filling(select_all), "cpu")
    return f"selection/{spec.id()}"


def _grow_probe(
    grown: _Grown,
    case: EvaluateCase,
    store: Path,
    plugin: registry.Plugin,
    params: registry.Params,
    budget_s: float,
) -> list[str]:
    """Time the protocol on random features; return what it encodes, splits and `CHANGED` images, in order.

    Forward passes are counted apart.
    """
    from winnow.data.dataset import Dataset
    from winnow.evaluate.engine.view import EvaluationView

    random, n, spent = np.random.default_rng(0), LEAST, 0.0
    grown.seconds, grown.memory = [], []
    while True:
        asked: list[str] = []
        data = Dataset.open(store / make_data(store, without_pixels(case.look), n))
        arrays = {
            "train": random.standard_normal((n, case.width)).astype(np.float32),
            "validation": random.standard_normal((TEST, case.width)).astype(np.float32),
            "test": random.standard_normal((TEST, case.width)).astype(np.float32),
        }

        def encode(
            split: str, arrays: dict[str, np.ndarray] = arrays, asked: list[str] = asked
        ) -> np.ndarray:
            asked.append(split)
            return arrays[split]

        def changed(images: np.ndarray, asked: list[str] = asked) -> np.ndarray:
            asked.append(CHANGED)
            return random.standard_normal((len(images), case.width), np.float32)

        view = EvaluationView(
            data=data,
            read=_unread,
            random=np.random.default_rng(0),
            encode=encode,
            encode_images=changed,
            encode_texts=lambda texts: random.standard_normal((len(texts), case.width), np.float32),
            encode_classes=lambda names, _: random.standard_normal((len(names), case.width), np.float32),
            save=lambda name, values: None,
        )
        watch = Watch()
        plugin.function(params, view)
        taken = watch.seconds
        spent += taken
        grown.seconds.append((n, taken))
        grown.memory.append((n, peak_memory()))
        most = min(case.n, MOST_BYTES // (4 * case.width))
        if "train" not in asked or n >= most or spent + _next(grown.seconds) > budget_s:
            return asked
        n = min(most, GROWTH * n)


def _unread(name: str) -> Path:
    raise FileNotFoundError(f"{name}: a protocol that encodes images has nothing to read in a rehearsal")


def _grow(
    store: Path,
    spec: Callable[[int, tuple[int, ...]], Spec],
    stage: Callable[[Job[Any]], None],
    device: str,
    budget_s: float,
    least: int,
    most: int,
    texts: _Texts | None = None,
    by_example: bool = False,
) -> _Grown:
    """Run a stage on `least` examples, then on four times as many until time or the plan's n is used up.

    Where the first run uses up the time, each example is taken to cost as much as there. by_example: what
    runs models pays for building them once, and the same for each example, which takes some patience to see.
    """
    forget_peak()
    n, spent, grown, texts = min(least, most), 0.0, _Grown(), texts or _Texts()
    while True:
        texts.owed = 0.0
        ran = run(store, spec(n, (0, 1)), stage, device)
        grown.first, grown.last = grown.first or ran, ran
        grown.taken.append((n, ran.cost("1")))
        grown.seconds.append((n, ran.cost("1") + texts.owed / 2))
        grown.memory.append((n, peak_memory()))
        grown.files.append((n, float(ran.bytes_of("s1/*"))))
        spent += 2 * ran.cost("1")
        is_over = (
            spent > PATIENCE * budget_s if ran is grown.first else spent + 2 * _next(grown.taken) > budget_s
        )
        if n >= most or is_over:
            if ran is grown.first and n < most:
                grown.seconds.insert(0, (0, 0.0))
            return grown
        n = min(most, GROWTH * n)


def _next(seconds: list[tuple[int, float]], by_example: bool = False) -> float:
    """Return the time to expect of the next size: as many times more as the last one took, or as n grows.

    by_example: more by what the last one took more, as often as n grows.
    """
    *before, (_, last) = seconds
    if by_example:
        return last + GROWTH * max(0.0, last - before[-1][1]) if before else last
    grown = last / before[-1][1] if before and before[-1][1] else 0.0
    return last * max(GROWTH, grown)


def _summary(grown: _Grown, **more: Any) -> StageMeasure:
    assert grown.first is not None
    return StageMeasure(
        first_s=max(0.0, grown.first.cost("0") - grown.first.cost("1")),
        imported_s=grown.first.imported_s,
        overhead_s=grown.first.overhead_s,
        seconds=Fit(tuple(grown.seconds)),
        memory=Fit(tuple(grown.memory)),
        files=Fit(tuple(grown.files)),
        fixed_files=float(grown.first.bytes_of("*.json")),
        **more,
    )
