"""A trained model along a recording: estimates, objects, writers, pictures."""
