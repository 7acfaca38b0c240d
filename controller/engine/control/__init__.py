"""Live control: verbs on jobs, stages and tasks."""
