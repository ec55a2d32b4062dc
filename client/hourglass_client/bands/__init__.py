"""Images too large for one request: cut into bands, sent one by one, and put together again (overlap-tile strategy)."""
