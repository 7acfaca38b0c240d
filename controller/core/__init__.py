"""The functional core: values in, values out; no I/O, no clock, no random numbers, no logging."""
