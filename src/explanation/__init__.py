"""Explain a trained net: what it gets right and wrong, how confident it is, and what it looks at."""
