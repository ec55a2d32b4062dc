"""Open Request Cost Aggregation (ORCA): reports of load, as Envoy and gRPC read them."""
