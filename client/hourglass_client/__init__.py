"""Typed client of the autoencoder service: arrays in, arrays out."""
