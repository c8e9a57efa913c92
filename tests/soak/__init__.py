"""Tests that take too long for the test suite: `make soak`."""
