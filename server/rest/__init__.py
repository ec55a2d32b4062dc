"""The Open Inference Protocol over HTTP, on a port of its own; needs the packages of the extra `rest`."""
