"""Stepping pixels down an objective."""
