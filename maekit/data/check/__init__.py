"""`maekit data check`: whether files agree with a data spec, and whether their values can be trusted. One kind of problem a file."""
