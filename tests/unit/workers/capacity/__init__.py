"""Tests of `workers.capacity`."""
