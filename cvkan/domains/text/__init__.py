"""Sentences as sequences of words."""
