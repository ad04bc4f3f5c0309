"""Sweeps: a record a job, a summary of all, going on with what is left. Built on files, so any launcher will do."""
