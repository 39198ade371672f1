"""Product matching: which listings are the same product."""
