"""What people do to jobs, stages and tasks while they run."""
