"""The typed service, `autoencoder.v1`."""
