"""The parts of a teacher's training: Algorithm 1, what is kept of it, and what is told of it."""
