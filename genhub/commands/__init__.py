"""What `genhub X` and `genhub.X()` do, a file each."""
