"""Metrics, their intervals and the gaps between systems; compares, never trains."""
