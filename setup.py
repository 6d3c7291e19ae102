"""A shim for tools that call setup.py: every setting is in setup.cfg."""

from setuptools import setup

setup()
