"""The paper's student models."""
