"""Zero-shot classification and retrieval of an image-text model at its last epoch.

An image has the class whose prompts, averaged over templates, its features are most similar to. Retrieval
ranks all captions of a split for an image, and all images for a caption; equal captions are equally right,
so that a product's twin is no mistake. Without labels there are no shifts, and the zero-shot accuracy is the
mean over the datasets of `transfer`; without a test split, as of web pairs, there is no retrieval. Of those
datasets, the ones of kind `benchmark` are measured by clip-benchmark, with its prompts; others are resized
and have the prompts of `templates`. Shifts are measured at every strength, and averaged over all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field, StringConstraints

from winnow.errors import UserError
from winnow.registry import Params, Signals, plugin
from winnow.train.engine.options import TEMPLATES, Templates

if TYPE_CHECKING:
    from winnow.evaluate.engine.view import EvaluationView
    from winnow.plan.catalogue import DatasetEntry

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
STRENGTHS = (1, 2, 3, 4, 5)
WAYS = ("image_to_text", "text_to_image")
AT_ONCE = 1024


class ZeroShotParams(Params):
    """top: k of the top-k accuracies. recall: k of the recalls. splits: measured besides the test split.

    shifted: how many test images the corruptions are measured on, evenly spread over the split. averages:
    names for means over some datasets of `transfer`, each `<name>_zero_shot_accuracy`.
    """

    templates: Templates = TEMPLATES
    top: tuple[int, ...] = (5,)
    recall: tuple[int, ...] = (1, 5, 10)
    corruptions: tuple[Literal["greyscale", "blur", "noise", "crop", "colour"], ...] = ()
    shifted: int = Field(default=1000, ge=1)
    splits: tuple[Literal["validation"], ...] = ()
    averages: dict[Name, Annotated[tuple[str, ...], Field(min_length=1)]] = Field(default_factory=dict)


def needs(params: ZeroShotParams) -> Signals:
    averaged = {name for names in params.averages.values() for name in names}
    return {"model": {"learned": "captions"}, "transfer": {"test_sets": True, "names": sorted(averaged)}}


def metrics(params: ZeroShotParams, entry: DatasetEntry, transfer: Mapping[str, DatasetEntry]) -> set[str]:
    """Return the names of what is measured: without classes or a test split no accuracy of the data's own."""
    found, is_tested = set[str](), "test" in entry.splits
    for name, other in transfer.items():
        whole = _names(f"{name}_zero_shot", params.top)
        found |= whole if other.kind == "benchmark" else {f"{name}_zero_shot_accuracy"}
    if transfer:
        found |= {f"{average}_zero_shot_accuracy" for average in params.averages}
        found |= {"transfer_zero_shot_accuracy", "zero_shot_accuracy"}
    if is_tested and entry.class_count:
        found |= _names("zero_shot", params.top)
        found |= {name for split in params.splits for name in _names(f"{split}_zero_shot", params.top)}
        found |= {f"{kind}_{strength}_accuracy" for kind in params.corruptions for strength in STRENGTHS}
        found |= {"shifted_accuracy"} if params.corruptions else set()
    if is_tested:
        found |= {f"{way}_recall_at_{k}" for way in WAYS for k in params.recall}
    return found


def _names(name: str, top: tuple[int, ...]) -> set[str]:
    return {f"{name}_accuracy", f"{name}_balanced_accuracy"} | {f"{name}_top{k}_accuracy" for k in top}


@plugin(
    params=ZeroShotParams,
    needs=needs,
    metrics=metrics,
    source="Radford et al. 2021, arXiv 2103.00020, section 3.1",
)
def evaluate(params: ZeroShotParams, view: EvaluationView) -> dict[str, tuple[float, int]]:
    """Return accuracies and recalls, as fractions, each with its number of examples.

    Keeps `confusion.npy` of a test split with labels: images by true and predicted class, int64
    (classes, classes).
    """
    found = dict(_transferred(params, view))
    images = view.encode("test") if "test" in view.data.splits else None
    if images is not None and view.data.has_labels("test"):
        found |= _classified(params, view, images)
    elif found:
        found["zero_shot_accuracy"] = found["transfer_zero_shot_accuracy"]
    if images is not None and params.recall:
        captions = view.data.captions("test")
        texts = view.encode_texts([text for own in captions for text in own])
        found |= retrieval(images, texts, captions, params.recall)
    if not found:
        raise UserError(
            f"zero_shot: {view.data.name} has no test split to measure on; name datasets in `transfer` of the"
            " suite."
        )
    return found


def _classified(
    params: ZeroShotParams, view: EvaluationView, images: np.ndarray
) -> dict[str, tuple[float, int]]:
    """Measure on splits with labels, and on corrupted test images. images: the test split's features."""
    prompts = view.encode_classes(view.data.classes, params.templates)
    scores, labels = images @ prompts.T, _labels(view, "test")
    found = classification(scores, labels, params.top, "zero_shot")
    confusion = np.zeros((len(prompts), len(prompts)), np.int64)
    np.add.at(confusion, (labels, scores.argmax(axis=1)), 1)
    view.save("confusion.npy", confusion)
    for split in params.splits:
        scores = view.encode(split) @ prompts.T
        found |= classification(scores, _labels(view, split), params.top, f"{split}_zero_shot")
    return found | dict(_shifted(params, view, prompts))


def _labels(view: EvaluationView, split: str) -> np.ndarray:
    if not view.data.has_labels(split):
        raise UserError(f"zero_shot: split '{split}' of {view.data.name} has no labels")
    return np.asarray(view.data.labels(split))


def classification(
    scores: np.ndarray, labels: np.ndarray, top: tuple[int, ...], name: str
) -> dict[str, tuple[float, int]]:
    """Return top-1, its mean over the classes that occur, and top-k accuracies.

    scores: (n, classes). A class ties with another: the one that comes first is taken.
    """
    n = len(labels)
    order = np.argsort(-scores, axis=1, kind="stable")[:, : max((1, *top))]
    hit = order == labels[:, None]
    right = hit[:, 0]
    per_class = [right[labels == label].mean() for label in np.unique(labels)]
    found = {
        f"{name}_accuracy": (float(right.mean()), n),
        f"{name}_balanced_accuracy": (float(np.mean(per_class)), n),
    }
    return found | {f"{name}_top{k}_accuracy": (float(hit[:, :k].any(axis=1).mean()), n) for k in top}


def retrieval(
    images: np.ndarray, texts: np.ndarray, captions: Sequence[Sequence[str]], recall: tuple[int, ...]
) -> dict[str, tuple[float, int]]:
    """Return recall at k both ways: the share of queries with a right answer among the k most similar.

    images: (n, d). captions: those of each image. texts: (m, d), features of all captions one after another.
    A text is right for an image that has a caption of the same words.
    """
    words = {
        text: place for place, text in enumerate(dict.fromkeys(text for own in captions for text in own))
    }
    group = np.array([words[text] for own in captions for text in own])
    has = np.zeros((len(images), len(words)), bool)
    for image, own in enumerate(captions):
        has[image, [words[text] for text in own]] = True
    both = (
        _ranks(images, texts, lambda part: has[part][:, group]),
        _ranks(texts, images, lambda part: has[:, group[part]].T),
    )
    found: dict[str, tuple[float, int]] = {}
    for name, blocks in zip(WAYS, both, strict=True):
        ranks = np.concatenate(list(blocks))
        found |= {f"{name}_recall_at_{k}": (float((ranks < k).mean()), len(ranks)) for k in recall}
    return found


def _ranks(
    queries: np.ndarray, candidates: np.ndarray, right: Callable[[slice], np.ndarray]
) -> Iterator[np.ndarray]:
    """Yield how many wrong candidates are at least as similar as the best right one; ties count against."""
    for start in range(0, len(queries), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        scores, is_right = queries[part] @ candidates.T, right(part)
        best = np.where(is_right, scores, -np.inf).max(axis=1)
        yield ((scores >= best[:, None]) & ~is_right).sum(axis=1)


def _transferred(params: ZeroShotParams, view: EvaluationView) -> Iterator[tuple[str, tuple[float, int]]]:
    """Yield top-1 accuracies on other datasets' test images, resized, and their mean."""
    from winnow.train.engine.resize import resized

    values: dict[str, float] = {}
    for name, data in view.transfer.items():
        if data.kind == "benchmark":
            assert view.on_test_set is not None
            found = classification(*view.on_test_set(data), params.top, f"{name}_zero_shot")
            values[name] = found[f"{name}_zero_shot_accuracy"][0]
            yield from found.items()
            continue
        prompts = view.encode_classes(data.classes, params.templates)
        images, labels = data.images("test"), np.asarray(data.labels("test"))
        right = []
        for start in range(0, len(labels), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            encoded = view.encode_images(resized(np.asarray(images[part]), view.data.shape))
            right.append((encoded @ prompts.T).argmax(axis=1) == labels[part])
        values[name] = float(np.concatenate(right).mean())
        yield f"{name}_zero_shot_accuracy", (values[name], len(labels))
    for average, names in params.averages.items() if values else ():
        yield f"{average}_zero_shot_accuracy", (float(np.mean([values[name] for name in names])), len(names))
    if values:
        yield "transfer_zero_shot_accuracy", (float(np.mean(list(values.values()))), len(values))


def _shifted(
    params: ZeroShotParams, view: EvaluationView, prompts: np.ndarray
) -> Iterator[tuple[str, tuple[float, int]]]:
    if not params.corruptions:
        return
    from winnow.evaluate.engine.corruptions import corrupted

    labels = _labels(view, "test")
    shown = np.linspace(0, len(labels) - 1, min(params.shifted, len(labels))).round().astype(int)
    original, labels = view.data.images("test")[shown], labels[shown]
    values = []
    for kind in params.corruptions:
        for strength in STRENGTHS:
            images = view.encode_images(corrupted(original, kind, strength))
            right = ((images @ prompts.T).argmax(axis=1) == labels).mean()
            values.append(float(right))
            yield f"{kind}_{strength}_accuracy", (float(right), len(labels))
    yield "shifted_accuracy", (float(np.mean(values)), len(labels))
