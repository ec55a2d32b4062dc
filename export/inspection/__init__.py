"""Verifying, showing and comparing published bundles."""
