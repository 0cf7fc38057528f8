"""Windows of HDF5 recordings."""
