"""One record in and out again, with pyzmq alone: pip install pyzmq, python hello.py [endpoint]."""

import json
import sys

import zmq

socket = zmq.Context().socket(zmq.REQ)
socket.setsockopt(zmq.RCVTIMEO, 10_000)  # silence is no answer: do not wait for ever
socket.connect(sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5559")


def ask(header, *payload):
    socket.send_multipart([json.dumps(header).encode(), *payload])
    reply, *values = socket.recv_multipart()
    reply = json.loads(reply)
    if reply["error"]:
        sys.exit(f"{reply['error']['name']}: {reply['error']['message']}")
    return reply, values


sent, _ = ask({"api": "produce", "topic": "hello", "key": "user-7"}, b"hello from Python")
partition, offset = sent["partition"], sent["offset"]
fetched, values = ask({"api": "fetch", "topic": "hello", "partition": partition, "offset": offset})
print(f"partition {partition}, offset {offset}: {fetched['records'][0]['key']} = {values[0].decode()}")
