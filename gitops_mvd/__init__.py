"""Minimum Viable Docker, driven by Git."""

from importlib.metadata import version

__version__ = version("gitops-mvd")
