"""Densities: of images under a VAE, and of its latents."""
