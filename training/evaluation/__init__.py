"""Evaluation of trained models: metrics, probes, latent statistics, attributes."""
