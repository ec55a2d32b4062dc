"""model.json, signing, and atomic publication into a model repository."""
