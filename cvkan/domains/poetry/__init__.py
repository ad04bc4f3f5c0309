"""Poems as sequences of word vectors."""
