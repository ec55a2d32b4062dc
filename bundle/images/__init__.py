"""Image files: how they become pixels, and what they may cost."""
