"""What the server's database knows beside the names: who may do what, what was done, and where blobs are."""
