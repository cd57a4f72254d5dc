"""Mutations of every kind of file that genhub reads, and the verdict on what it makes of them.

`mutate` changes bytes, structures and places; `kinds` and its rooms say what is changed, who reads it, and which outcome
is right; `forks` runs each case in a process with limits.
"""
