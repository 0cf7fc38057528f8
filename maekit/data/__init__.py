"""From files to batches: data specs, sources, splits by group, sampling, conversion and inspection."""
