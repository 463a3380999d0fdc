"""The data sets, and how they are split. Nothing is read before it is needed, and only ``prepare`` writes."""
