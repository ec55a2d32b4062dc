"""Stubs of the Open Inference Protocol, generated from the .proto files beside them."""
