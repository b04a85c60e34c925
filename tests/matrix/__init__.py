"""The matrix: every way into a cluster, and what becomes of it."""
