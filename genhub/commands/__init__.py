"""The commands: `genhub X` and `genhub.X()`, a file each."""
