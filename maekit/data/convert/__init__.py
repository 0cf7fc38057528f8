"""Published files to HDF5, as the `convert` section of a data spec says."""
