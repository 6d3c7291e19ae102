"""Ops on images; users find them in `tfjax.image`."""
