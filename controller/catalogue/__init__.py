"""The catalogue: what tasks and jobs there are. Records, the file they are written in, its checks and its watcher."""
