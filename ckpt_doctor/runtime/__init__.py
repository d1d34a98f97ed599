"""The machine: its cores, other processes, threads, the state of files."""
