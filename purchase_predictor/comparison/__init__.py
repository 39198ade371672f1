"""Local against global: the arms, their gaps, and what they say of a market."""
