"""Where a run's cells are run: on this machine, or by a scheduler on others."""
