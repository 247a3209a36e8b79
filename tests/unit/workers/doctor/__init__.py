"""Tests of `workers.doctor`."""
