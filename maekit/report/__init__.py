"""Drawing: figures, one self-contained HTML page, and tables in the terminal."""
