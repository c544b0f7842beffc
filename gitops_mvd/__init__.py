"""Minimum Viable Docker, driven by Git."""
