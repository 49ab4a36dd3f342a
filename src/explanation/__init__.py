"""What a trained net gets right and wrong, how sure it is, and what it looks at."""
