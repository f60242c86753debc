"""One request on many domains, and the journal that keeps the results on disk."""
