"""A call from arrival to answer: authentication, streaming, log, traces."""
