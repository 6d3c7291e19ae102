"""The functions that open a source and return a Pipeline: one file per kind of source."""
