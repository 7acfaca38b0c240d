"""The same work in other engines. It runs in their environments and must not import packages that they lack."""
