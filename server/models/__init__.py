"""Model versions: loading, lifecycle, health, and the table that requests look them up in."""
