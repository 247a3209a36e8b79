"""What a recipe sets of the data; read with `msgspec.convert` from the recipe's YAML.

Paths are texts, relative to the working directory of the command.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from schemas.identifiers import FieldError

Split = Literal["train", "dev"]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Text = Annotated[str, Meta(min_length=1)]
Rows = Annotated[int, Meta(ge=1)]


class GeneratorSource(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="generator"
):
    """Rows of the project's own generator: policies and conversations in made-up and everyday words."""

    name: Name = "generator"
    train_rows: Annotated[int, Meta(ge=0)] = 0
    """Without the twins."""
    dev_rows: Annotated[int, Meta(ge=0)] = 0
    style: Literal["words", "single", "full", "wide", "sharp", "crossed"] = "full"
    """How conversations are drawn (`guard.training.generator.conversations`)."""
    prose: Share = 0.0
    """Of the definitions, the share that are sentences instead of lists."""
    twins: Share = 0.5
    """Of unsafe draws in `train`, the share with a twin; in `dev` all have one, so that pairs are measured.
    Balance keeps a safe draw for each unsafe one without."""
    perturb: bool = False
    """Whether policies are perturbed as well; the generator varies them already."""


class JsonlSource(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="jsonl"
):
    """Labelled conversations as JSON lines, plain or gzip."""

    path: Text
    """A file, or a folder of which all `*.jsonl` and `*.jsonl.gz` are taken, each a source of its own."""
    mapping: str = ""
    """A shipped mapping's name or a file; empty: the shipped one that is named like the file."""
    only: tuple[Name, ...] = ()
    """Of a folder, the files to take, named without their endings; empty: all."""
    leave_out: tuple[Name, ...] = ()
    """Of a folder, the files not to take."""
    splits: Annotated[tuple[Split, ...], Meta(min_length=1)] = ("train", "dev")
    """Rows of other splits are left."""
    most_rows: Rows | None = None
    """Of each source and split; which ones is drawn from the seed. Absent: all."""
    dev_share: Share = 0.1
    """Of the groups of rows that name no split."""
    perturb: bool = True

    def __post_init__(self) -> None:
        if self.only and self.leave_out:
            raise FieldError("expected either `only` or `leave_out`, not both", "leave_out")


class ReviewsSource(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="reviews"
):
    """Human reviews joined with the events that they judge, as `rsafe train export` writes them."""

    path: Text
    """An export, or a folder of exports (`*.jsonl`, `*.jsonl.gz`); of rows with one id the latest counts."""
    policies: Text
    """A YAML file with a policy, or a folder of such files: those that the reviewers worked under, by id."""
    name: Name = "reviews"
    splits: Annotated[tuple[Split, ...], Meta(min_length=1)] = ("train", "dev")
    most_rows: Rows | None = None
    dev_share: Share = 0.1
    perturb: bool = True


Source = GeneratorSource | JsonlSource | ReviewsSource


class PerturbationSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often policies are changed. The first six keep the label; the others make twins."""

    drop: Share = 0.5
    """Of variants of a policy: some categories that the text cannot violate are taken out."""
    reorder: Share = 0.5
    """Of variants: the categories change places, which is to say codes."""
    rename: Share = 0.5
    """Of variants: other codes and, where there are, other titles."""
    reword: Share = 0.5
    """Of variants: other definitions that mean the same, lists become prose."""
    add: Share = 0.3
    """Of variants: a customer's list of terms, none of which is in the text."""
    except_other: Share = 0.3
    """Of variants: an exception that has nothing to do with the text, or exceptions would all mean safe."""
    other_views: Share = 0.5
    """Of rows that another view of their mapping supports: that view; with the other label it is a twin."""
    switch_off: Share = 0.5
    """Of unsafe rows: a twin under a policy without what they violate, safe."""
    invert: Share = 0.3
    """Of those twins: another category names what they violate as its exception."""
    switch_on: Share = 0.2
    """Of safe rows: a twin under a policy that lists a word of theirs, unsafe."""
    variants: Annotated[int, Meta(ge=1, le=10_000)] = 48
    """Of each policy (and of what rows violate in it): rows share them, so prompts have common beginnings."""
    splits: tuple[Split, ...] = ("train",)
    """Which splits are perturbed; `dev` as it is shows each source on its own."""


class LeakSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which rows count as near-duplicates, and of what."""

    threshold: Annotated[float, Meta(ge=0.3, le=1.0)] = 0.8
    """Jaccard similarity of character 5-grams from which two conversations are too near."""
    permutations: Annotated[int, Meta(ge=16, le=512)] = 128
    """Of a MinHash; more find more of the pairs near the threshold."""
    evaluation_paths: tuple[Text, ...] = ()
    """Files or folders of JSON lines; rows near to one of theirs leave both splits."""


class DataSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that decides which rows a training run sees."""

    sources: Annotated[tuple[Source, ...], Meta(min_length=1)]
    perturbation: PerturbationSettings = PerturbationSettings()
    leaks: LeakSettings = LeakSettings()
    balance: bool = True
    """RSafe's: in `train`, each source has as many safe as unsafe rows; sources of one class together."""
    max_prompt_tokens: Annotated[int, Meta(ge=16)] = 2048
    """A row whose rendered prompt is longer is dropped, with its twin."""
    max_completion_tokens: Annotated[int, Meta(ge=8)] = 512
    """A row whose answer is longer is dropped, with its twin."""
    seed: int = 0
