"""Trials of settings: drawn, run, kept, the best of them as a file."""
