"""How far a graph sees, and the proof that tiles give what the whole image gives."""
