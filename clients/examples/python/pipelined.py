"""Many requests in flight over one DEALER: pip install pyzmq, python pipelined.py [endpoint]."""

import json
import sys

import zmq

RECORDS = 1_000

socket = zmq.Context().socket(zmq.DEALER)
socket.setsockopt(zmq.RCVTIMEO, 10_000)
socket.connect(sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5559")

for number in range(RECORDS):
    header = {"api": "produce", "id": number, "topic": "hello", "key": f"user-{number % 10}"}
    socket.send_multipart([json.dumps(header).encode(), b"record %d" % number])

waiting = set(range(RECORDS))
while waiting:  # replies may come in another order: their id says whose they are
    reply = json.loads(socket.recv_multipart()[0])
    if reply["error"]:
        sys.exit(f"record {reply['id']}: {reply['error']['name']}: {reply['error']['message']}")
    waiting.remove(reply["id"])
print(f"{RECORDS} records are durable")
