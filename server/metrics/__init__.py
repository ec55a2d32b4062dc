"""Prometheus metrics: the registry, exact run statistics, drift, GPU."""
