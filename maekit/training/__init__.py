"""One loop for every task, on a CPU, a GPU or many, that survives being stopped anywhere."""
