"""Rewrites of a chain that keep every element to the bit: one a file, each a pure function from stages to stages."""
