"""The demo: simulated card transactions, their history in a store, and a small model (examples/card_fraud)."""
