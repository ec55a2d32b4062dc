"""Loss terms and training objectives."""
