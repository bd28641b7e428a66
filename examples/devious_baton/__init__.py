"""Devious Baton (draft-frindell-webtrans-devious-baton, version 0): a game that uses every part of a session.

Two endpoints hand bytes, the batons, back and forth. Each pass adds one, and a baton that has reached 0 is done. The
passes walk over all kinds of streams, now and then a datagram is due, and the reset and close codes have meanings. So
it is a small program and at the same time a test between implementations.

    message.py   the one message, its codec, the codes
    player.py    the rules, the same for both ends
    server.py    python -m examples.devious_baton.server --port 4433
    client.py    python -m examples.devious_baton.client localhost:4433 --count 5 --baton 1
"""
