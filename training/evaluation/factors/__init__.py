"""Factors of variation of images, such as thickness and slant: measured, moved along in latent space, told apart."""
