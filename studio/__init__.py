"""The application: everything that knows a user. `core` and `data` meet here."""
