"""Bytes of any kind into every decoder that faces a topic or Redis.

targets     the decoders, and what each of them promises
inputs      input number n of a seed: a mutation of an example, the same on every machine
bounds      time and memory that one input may take
guided      the same decoders under atheris, where it is installed
__main__    `python -m tests.fuzz`: a million inputs, and a table
"""
