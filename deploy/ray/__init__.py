"""Replicas of the server on a Ray cluster: placement, healing, rolling upgrades, autoscaling, endpoints for Envoy."""
