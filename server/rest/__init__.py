"""HTTP on a port of its own: the Open Inference Protocol and autoencoder.v1; needs the packages of the extra `rest`."""
