"""Fast paths, each equal to the plain path by test and off by one flag."""
