"""Attacks on the guard: what writers of messages try so that something unsafe passes.

attack      what an attack is
texts       the hand-written ones, from texts.jsonl
spelling    generated: characters of the message
layout      generated: where the message stands, and among what
corpus      all of them, by name

An attack is `structural` when it aims at how the prompt is built, tokenised or parsed: those must fail
always, whatever the model (tests/unit/guard/test_attacks.py). It is of `judgement` when it aims at what the
model makes of the words: how often those succeed is measured (guard/training/attack_evaluation.py). The words
of structural attacks are measured as well.

The corpus stands within training, because only evaluation and tests use it: the fences that keep training out
of the served guard and of the worker hold for it without more rules.
"""
