"""Bytes of any kind into every decoder that faces a topic or Redis.

targets     the decoders, and what each of them promises
cached      entries of the verdict cache, as far as the decision that is made of them
inputs      input number n of a seed: a mutation of an example, the same on every machine
bounds      time and memory that one input may take
guided      the same decoders under atheris, where it is installed
report      the table of a run, and its place in the docs
__main__    `python -m tests.fuzz`: a million inputs into each decoder
"""
