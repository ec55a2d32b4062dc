"""PyTorch training of autoencoders, VAEs and denoisers, from a recipe to a checkpoint."""
