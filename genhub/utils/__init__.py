"""Randomness, caches, files and the environment: nothing here knows of images, models or recipes."""
