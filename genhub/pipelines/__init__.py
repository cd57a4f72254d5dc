"""A pipeline generates: one travelling class a file."""
