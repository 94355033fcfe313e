"""From an experiment to a painting."""
