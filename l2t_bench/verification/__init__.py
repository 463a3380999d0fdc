"""What proves a backend right."""
