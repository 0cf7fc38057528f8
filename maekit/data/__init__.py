"""Reading recordings: what a file means (spec), windows of it (hdf5, image_folder), and who is on which side (splits)."""
