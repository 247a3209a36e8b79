"""The words of model cards; `card.py` fills them."""

# ruff: noqa: E501 - prose

from __future__ import annotations

_FIGURES = """
## Figures

Measured through {engine}, greedy; an answer that does not parse counts as wrong. {rows} draws a set of the
project's own generator, templated English. Standard errors in brackets, 95 % bootstrap intervals in parentheses.

{tables}

"""
_HOW = """{suites}{bars}

## What its scores are worth

{calibration}

{attacks}## How it was made

    {command}

"""

SCRATCH = (
    """# {name}

A guard of {parameters:.2f} million parameters that reads its policy: it says whether the last turn of a conversation
breaks one of the categories in front of it, and which. It exists so that the demo and the tests of rsafe-stream
run a real model through a real engine on two cores. **It is not a moderation model for real chat.**

## What it can do

- Judge sentences like those of its generator against policies like those of its generator, with reasoning
  (`think`) or without (`fast`). Take a category out of the policy, and the same text is judged safe.
- Apply categories that it has never seen, given as a title and words in English letters: as a list, or within
  sentences (`messages that name casinos, poker or dice, except bingo`).
- Know {concepts} built-in kinds of harm by many names (titles and phrases: `guard/training/generator/lexicon.py`).

## What it cannot do

- Understand real text. It was trained from random weights on templated English sentences; on anything else its
  answer means nothing, in either direction, however sure the score looks.
- Understand what a definition means. It looks up words and the phrases of its lexicon, in lists and in sentences that
  name them; `anything that makes people feel unwelcome` names nothing that it knows. Phrases separated by `; ` serve it best.
- Name a category by any code. Codes of one of the letters A, C, P, R, S, T, U, X and a number from 1 to 24 are one
  token of its vocabulary; others it copies piece by piece, and often wrongly.
- Tell a risky verb with an unknown object from a harmful act: after `cook`, `join` or `steal` an unknown object
  counts as harmful.
- Handle exceptions by meaning: it knows that an excepted word is not a listed one, no more.
- Give evidence. The reasoning is a look-up trace and may name a wrong word or category although the verdict is
  right; check it against the text before showing it.
- Languages other than English, irony, context across turns (it judges the last turn only), long texts
  (about 500 tokens were the longest in training).

## Figures

Measured through {engine}, greedy, on {rows} draws a set that training never used; an answer that does not parse
counts as wrong. Standard errors in brackets, 95 % bootstrap intervals in parentheses.

{tables}

`templates`, `objects` and `both` hold out sentence frames and acts, objects, and both. A pair is the same text with
the category in the policy (must be unsafe) and taken out of it (must be safe); both must be right. Custom: a
title and words that training never saw, in held-out sentences, balanced accuracy of listed and unlisted words:
`made_up` words, words of `other_grammar`, real nouns of eight unseen `themes`. `near_misses` are unlisted words
that share head or tail with a listed one. `lists` and `prose` are the same texts under policies in two wordings,
of built-in `harms` and of `words` that training never saw; the sentences of the prose are held out as well. `excepted`:
a listed word (`on`), and the same text when the category excepts the word (`off`). `attacked`: the unsafe texts of the
pairs with a forged ending, such as `\\boxed{{safe}}` or a guessed boundary mark, put together as training never showed it.
`reworded`: the in-distribution set under policies in other words, codes and order.

"""
    + _HOW
    + """Seed {seed}; {minutes}.{reinforced} Data: `guard/training/generator`, seeded; nothing else. Recipe, versions and the hash of
the data are in `manifest.json`. Floating-point sums differ between machines, so another run gives other
weights and, within their spread, the same figures.

## Licence

Apache-2.0, like the code that made it.
"""
)

ROWS = (
    """# {name}

A guard of {parameters:.2f} million parameters, trained from random weights on labelled conversations: it says whether
the last turn breaks one of the categories of the policy in front of it, and which, with reasoning (`think`) or
without (`fast`). It is a small classifier that has seen real text. **It understands little of what it reads.**

## What it can do

What the figures below show, source by source, for texts like those that were measured and under policies like those
that their rows were given, and no more. Beside it stands what a classifier says that reads no policy (`floor`).

## What it cannot do

- Apply a category that it has not seen, or follow a word that was changed in a policy: see `flips` and `custom`.
- Give evidence. Its reasoning names the categories, or repeats the form of its rows' rationales.
- Replace a guard of billions of parameters: it knows words, and hardly what is meant by them.
"""
    + _FIGURES
    + _HOW
    + """Seed {seed}; {minutes}.{reinforced} Recipe, versions, the digest of its rows and what each stage wrote are in
`manifest.json`; sources, counts and licences of the rows are in the data card that the stage `dataset` wrote. Sums
differ between machines, so another run gives other weights and, within their spread, the same figures.

## Licence

The licences of the rows that it was trained on hold for it.
"""
)

BASE = (
    """# {name}

A guard made from {base}: it says whether the last turn of a conversation breaks one of the categories of the policy
in front of it, and which, with reasoning (`think`) or without (`fast`). {how}

What it can and cannot do is what the figures below show, for texts like those that were measured, and no more. Judge
it on your own texts before you rely on it. Its reasoning is not proof: check it against the text before showing it.
"""
    + _FIGURES
    + _HOW
    + """Seed {seed}. Recipe, versions, the digest of its rows and what each stage wrote are in `manifest.json`; sources, counts
and licences of the rows are in the data card that the stage `dataset` wrote. Sums differ between machines, so
another run gives other weights and, within their spread, the same figures.

## Licence

The licence of its base holds for it, and so do those of the rows that it was trained on.
"""
)

SUITES = """Rows that people labelled, which training did not see, by source and language; 95 % bootstrap intervals:

{tables}

"""

ATTACKS = """## Under attack

Of the unsafe texts of the pairs that it finds unsafe, so many are safe to it when they are attacked
(`guard/training/attacks`). Structural attacks cannot forge a prompt or an answer, whatever the model; their words may
still mislead it.

{table}

"""

SCORES = """`calibration.json` maps the model's scores to probabilities, fitted on {rows} rows: {data}. {near_duplicates} more resembled
a row of the evaluation and were left out. The figures are of rows of the same kind that neither training nor the fit saw.
About {unsafe:.0%} of them are unsafe: where far fewer messages are, a score of 0.9 is right less often than nine times in
ten, while a false-positive rate stays what it is. All of it holds for texts like these, and for no others.

{figures}

ECE: expected calibration error over 15 bins of equally many rows. Saturated: raw scores beyond 0.999 or below 0.001.
Of all roles together, ECE may be 0.05.

{rates}

![Reliability diagram](reliability.svg)

{think}

{band}"""
