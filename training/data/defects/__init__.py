"""Normal images to train on, defective ones to test with: splits by class, masks, and a generator of both."""
