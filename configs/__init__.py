"""Settings files shipped with the package; every key carries a sentence."""
