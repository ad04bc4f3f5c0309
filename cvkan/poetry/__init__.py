"""Poems as text: tokens, files of poems, chunks, word vectors, baselines."""
