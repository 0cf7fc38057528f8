"""Exchange of weights with other code: import, export, and graphs that run without maekit."""
