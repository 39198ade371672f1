"""Batch scoring: shards, engines that score them, a working folder to go on from."""
