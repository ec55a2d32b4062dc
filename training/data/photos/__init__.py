"""Photographs of any size: crops of them, and those that come with scikit-image and scikit-learn."""
