"""REST: bodies and headers in, use cases called, JSON and files out. Nothing else knows what a JSON body looks like."""
