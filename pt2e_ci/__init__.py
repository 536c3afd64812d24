"""A reproducible CI matrix for PT2E: is the reference representation integer, and are the integers right."""

__version__ = "0.1.0"
