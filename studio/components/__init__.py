"""What the pages are made of: the word chips and the figures. They know what to draw and nothing of services."""
