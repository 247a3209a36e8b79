"""Tests of what the benchmarks work out; what they measure is not tested."""
