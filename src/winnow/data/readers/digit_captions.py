"""Image-text pairs that come with an installed library: digits with captions of what is measured on them.

Images, labels and split are those of the reader `bundled`. Four measures of each image (`winnow.data.digits`)
become words by cutting them at quantiles of the training split: stroke thin / medium / thick, slant left /
upright / right, size small / large, ink faint / dark. A caption names the digit and some of the words, in one
of several sentences.

Each example's draws depend on `seed` and its place in the library alone, never on other options: a word that
is mentioned at a low richness is also mentioned at every higher one, and a digit whose colour is spurious at
a low share is so at every higher one. Columns: `caption`, the four words, the four values (`stroke_value`,
...), and for coloured digits `colour` and `colour_agrees`.

`colour` paints the digits, for the semi-synthetic shift of arXiv 2310.04971 (spurious colours): each class
has a colour, shared by neighbouring classes if there are fewer colours than classes. A training digit has its
class's colour with probability `spurious`, else one of the others. In the test split that probability is
1 - `spurious` (`reversed`), 1 / colours (`random`) or the same (`same`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from winnow.data.batch import Batch, Images, Labels
from winnow.data.digits import Floats, load, measure
from winnow.errors import UserError
from winnow.plan.catalogue import DatasetEntry, Frozen, ReaderOptions

WORDS = {
    "size": ("small", "large"),
    "ink": ("faint", "dark"),
    "stroke": ("thin", "medium", "thick"),
    "slant": ("slanted left", "upright", "slanted right"),
}
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PALETTE = {
    "red": (230, 25, 75),
    "blue": (0, 90, 230),
    "green": (60, 180, 75),
    "yellow": (255, 225, 25),
    "purple": (145, 30, 180),
    "cyan": (70, 240, 240),
    "orange": (245, 130, 48),
    "pink": (250, 190, 212),
    "brown": (154, 99, 36),
    "white": (255, 255, 255),
}
PLAIN, PICTURE, LISTED, HANDWRITTEN = range(4)
SENTENCES = 4
# The order of an example's uniform draws; a new one goes to the end, so that the others stay.
DRAWS = ("sentence", "size", "ink", "stroke", "slant", "colour", "agrees", "other")

Probability = Annotated[float, Field(ge=0, le=1)]
Words = npt.NDArray[np.object_]


class Colour(Frozen):
    """How the digits are painted; `mention` is the chance that a caption says so (default: `richness`)."""

    spurious: Probability
    colours: Literal[2, 5, 10] = 10
    test: Literal["reversed", "random", "same"] = "reversed"
    mention: Probability | None = None


class Options(ReaderOptions):
    """Options of the reader `digit_captions`.

    `richness` is the chance that each word is mentioned beside the digit; `label` is 0, `full` is 1, and
    `attributes` mentions all words and never the digit.
    """

    richness: Literal["label", "attributes", "full"] | Probability = "full"
    colour: Colour | None = None
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _mention_has_a_meaning(self) -> Self:
        if self.richness == "attributes" and self.colour and self.colour.mention is None:
            raise ValueError("with `richness: attributes`, say in `colour.mention` how often it is named.")
        return self

    @property
    def chance(self) -> float:
        """The probability that a word is mentioned."""
        return self.richness if isinstance(self.richness, float) else float(self.richness != "label")

    @property
    def colour_chance(self) -> float:
        """The probability that the colour is mentioned."""
        stated = self.colour.mention if self.colour else None
        return self.chance if stated is None else stated


class Painted(NamedTuple):
    """Colour images uint8 (n, h, w, 3), the colours' names (n,), and where they agree with the label (n,)."""

    images: Images
    names: Words
    agrees: npt.NDArray[np.bool_]


def read(entry: DatasetEntry, files: dict[str, Path]) -> Iterator[Batch]:
    """Yield the two splits; needs no file."""
    import pandas

    options = Options.model_validate(entry.options)
    if entry.kind != "pairs":
        raise UserError(
            f"datasets.yaml: {entry.name}.kind: '{entry.kind}', but digits with captions are 'pairs'."
        )
    digits = load()
    draws = _draws(options.seed, len(digits.labels))
    values = measure(digits.images)
    words = attribute_words(values, ~digits.is_test)
    images = digits.images[..., np.newaxis]
    columns: dict[str, object] = {}
    if options.colour:
        images, columns["colour"], columns["colour_agrees"] = paint(
            digits.images, digits.labels, digits.is_test, options.colour, draws
        )
    shown = words | ({"colour": np.asarray(columns["colour"])} if options.colour else {})
    captions = _captions(digits.labels, shown, options, draws)
    table = pandas.DataFrame(
        {"caption": captions} | words | {f"{name}_value": value for name, value in values.items()} | columns
    )
    for split, rows in (("train", ~digits.is_test), ("test", digits.is_test)):
        part = table[rows].reset_index(drop=True)
        yield Batch(split, images=images[rows], labels=digits.labels[rows], table=part)


def attribute_words(values: Mapping[str, Floats], train: npt.NDArray[np.bool_]) -> dict[str, Words]:
    """Return each measure as words (n,), cut into equal parts of the training values; ties go down."""
    found = {}
    for name, words in WORDS.items():
        cuts = np.quantile(values[name][train], np.arange(1, len(words)) / len(words))
        found[name] = np.array(words, dtype=object)[np.searchsorted(cuts, values[name], side="left")]
    return found


def paint(
    images: Images, labels: Labels, is_test: npt.NDArray[np.bool_], colour: Colour, draws: dict[str, Floats]
) -> Painted:
    """Return the grey images (n, h, w) in colour: black stays black, white becomes the full colour."""
    count = colour.colours
    own = labels * count // len(NAMES)
    shifted = {"reversed": 1 - colour.spurious, "random": 1 / count, "same": colour.spurious}[colour.test]
    agrees = draws["agrees"] < np.where(is_test, shifted, colour.spurious)
    steps = 1 + np.floor(draws["other"] * (count - 1)).astype(np.int64)
    chosen = np.where(agrees, own, (own + steps) % count)
    names = list(PALETTE)[:count]
    full = np.array([PALETTE[name] for name in names])[chosen]
    painted = np.rint(images[..., np.newaxis] / 255 * full[:, np.newaxis, np.newaxis]).astype(np.uint8)
    return Painted(painted, np.array(names, dtype=object)[chosen], agrees)


def _draws(seed: int, n: int) -> dict[str, Floats]:
    """Return uniform draws (n,) by what they decide; row i depends on (seed, i) alone."""
    rows = np.stack([np.random.default_rng([seed, row]).random(len(DRAWS)) for row in range(n)])
    return {name: rows[:, column] for column, name in enumerate(DRAWS)}


def _captions(
    labels: Labels, words: Mapping[str, Words], options: Options, draws: dict[str, Floats]
) -> list[str]:
    sentences = np.floor(draws["sentence"] * SENTENCES).astype(np.int64)
    chances = {name: options.colour_chance if name == "colour" else options.chance for name in words}
    order = [name for name in ("size", "ink", "colour", "stroke", "slant") if name in words]
    said = {name: draws[name] < chances[name] for name in order}
    named = options.richness != "attributes"
    return [
        sentence(
            int(sentences[row]),
            NAMES[label] if named else "",
            [words[name][row] for name in order if said[name][row]],
        )
        for row, label in enumerate(labels)
    ]


def sentence(form: int, digit: str, words: list[str]) -> str:
    """Return one of the `SENTENCES` forms of a caption for a digit's name ("" to leave it out) and words."""
    phrase = " ".join(words)
    if form == PLAIN:
        return _article(f"{phrase} digit {digit}")
    if form == PICTURE:
        return "a picture of " + _article(f"{phrase} {digit or 'digit'}")
    if form == LISTED:
        return " ".join(f"the number {digit} {phrase}".split())
    return " ".join(f"{phrase} handwritten {digit or 'digit'}".split())


def _article(noun: str) -> str:
    """Return the noun phrase, with single spaces, after "a" or "an"."""
    noun = " ".join(noun.split())
    return f"{'an' if noun[0] in 'aeiou' and not noun.startswith('one') else 'a'} {noun}"
