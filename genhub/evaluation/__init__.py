"""The yardstick: feature spaces, figures, memorisation, and the reference rows that give them meaning."""
