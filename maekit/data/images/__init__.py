"""Classification folders: one folder a class, as files or packed."""
