"""Which words and terms move buyers, market by market."""
