"""Modules without a test of their own name, and the test that covers each."""

COVERED_BY: dict[str, str] = {}
