"""The programs that are compared, one module each: a server and a client as a user would write them.

`python -m benches.peers.ours server|client ...` starts one end. bench.py does that; `harness` is what they share.
"""
