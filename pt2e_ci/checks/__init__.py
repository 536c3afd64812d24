"""What is said of a pair of programs: structure, numerics, digest, the seed's rule, and the verdict."""
