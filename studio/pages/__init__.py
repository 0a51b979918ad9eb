"""The pages of the studio, one file a tab; ``studio.interface`` puts them in order."""
