"""An experiment as data: a recipe names classes and arguments, and nothing else."""
