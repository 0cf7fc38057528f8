"""Heart signals and heart rate."""
