// A consumer of KafkaJS that says what happens to it, a line each, and ends when its input does.
//
//   NODE_PATH=<node_modules> node group_member.js <bootstrap> <group> <topic>

const { Kafka, logLevel } = require("kafkajs");

const [bootstrap, group, topic] = process.argv.slice(2);
const kafka = new Kafka({
  brokers: [bootstrap],
  clientId: "kafkajs",
  logLevel: logLevel.ERROR,
  retry: { initialRetryTime: 50, retries: 50 },
});
const consumer = kafka.consumer({ groupId: group, sessionTimeout: 6000, heartbeatInterval: 500, maxWaitTimeInMs: 100 });

async function live() {
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    const held = Object.entries(payload.memberAssignment).flatMap(([name, numbers]) => numbers.map((n) => ` ${name}:${n}`));
    console.log("all" + held.join(""));
  });
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  await consumer.run({
    autoCommitThreshold: 1,
    eachMessage: async ({ topic: name, partition, message }) => {
      console.log(`record ${name}:${partition} ${message.offset} ${message.value}`);
    },
  });
}

process.stdin.resume();
process.stdin.on("end", async () => {
  await consumer.disconnect();
  process.exit(0);
});
live().catch((failure) => {
  console.error(failure);
  process.exit(1);
});
