"""Data specs that come with maekit."""
