"""What goes out of the store as a whole and comes into it: export, import, backup, webhook."""
