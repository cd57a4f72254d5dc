"""Mutations of every kind of file that genhub reads, and the verdict on what it makes of them.

`mutate` changes bytes, structures and places; `data_kinds`, `repo_kinds` and `run_kinds` say what is changed, who
reads it, and which outcome is right, by the decoders of `strict`; `forks` runs each case in a process with limits.
"""
