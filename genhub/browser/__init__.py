"""A static page that runs published models in a browser."""
