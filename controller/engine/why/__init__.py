"""Why something does not move on."""
