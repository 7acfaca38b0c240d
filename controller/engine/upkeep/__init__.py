"""Work that no message asks for: leases and retries that are due, items to expand, files to publish."""
