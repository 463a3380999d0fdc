"""What is kept of a student's run for the way back, and how the rest is had again."""
