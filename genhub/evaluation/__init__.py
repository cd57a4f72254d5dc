"""The yardstick: feature spaces, metrics, memorisation, and the reference rows that calibrate them."""
