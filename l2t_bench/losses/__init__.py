"""The losses a student can be trained on."""
