"""Who may do what: the guard at the door, names, limits, uploads, and where things are kept."""
