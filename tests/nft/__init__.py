"""``ekslearn.nft`` beside the real nft: its text, and where its chains stand in a packet's way."""
