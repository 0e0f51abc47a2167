"""Pages that show results as pictures."""
