"""The Hub's format: saving, loading and sharing repositories, and their model cards."""
