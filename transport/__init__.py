"""CARRY: sockets, the loop and the data path's clock. The broker's only user of ZeroMQ."""
