"""How a run is planned, executed, measured and kept."""
