"""Reproduction of the published results on MNIST."""
