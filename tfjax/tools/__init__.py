"""What runs from the shell: `tfjax` and `python -m tfjax`. The rest of the package imports nothing of it."""
