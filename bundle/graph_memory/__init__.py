"""Estimates the memory of a graph from its bytes."""
