"""What each RPC does, a few lines each."""
