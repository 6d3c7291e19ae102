"""Rows kept once computed: in memory, or in the files of a folder."""
