"""What a run looked like, for people: figures, one self-contained page, tables in the terminal."""
