"""Anybody's model: what is asked of it, how it is judged, and what is said."""
