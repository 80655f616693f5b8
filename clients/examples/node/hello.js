// One record in and out again: npm install, node hello.js [endpoint]
const zmq = require("zeromq");

const socket = new zmq.Request({ receiveTimeout: 10_000, linger: 0 }); // silence is no answer
socket.connect(process.argv[2] ?? "tcp://127.0.0.1:5559");

async function ask(header, ...payload) {
  await socket.send([JSON.stringify(header), ...payload]);
  const [first, ...values] = await socket.receive();
  const reply = JSON.parse(first.toString());
  if (reply.error) throw new Error(`${reply.error.name}: ${reply.error.message}`);
  return [reply, values];
}

async function main() {
  const [sent] = await ask({ api: "produce", topic: "hello", key: "user-7" }, "hello from Node.js");
  const { partition, offset } = sent;
  const [fetched, values] = await ask({ api: "fetch", topic: "hello", partition, offset });
  console.log(`partition ${partition}, offset ${offset}: ${fetched.records[0].key} = ${values[0]}`);
}

main().then(() => process.exit(0), (error) => { console.error(error.message); process.exit(1); });
