"""Published weights: the registry, the cache, the download and the names of their classes."""
