"""What the paper says: its numbers, never mixed with measured ones; and what is assumed where it says nothing."""
