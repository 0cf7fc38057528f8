"""Folders of pictures, as files and packed."""
