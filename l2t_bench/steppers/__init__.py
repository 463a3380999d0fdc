"""How the steps of a run are taken and gone back through: one by one in plain torch, or traced and compiled."""
