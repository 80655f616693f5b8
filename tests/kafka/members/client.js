// A client of KafkaJS that does one thing; see client.py, which says what each mode is.
//
//   NODE_PATH=<node_modules> node client.js MODE BOOTSTRAP TOPIC [ARGUMENT ...]

const readline = require("readline");
const { Kafka, CompressionTypes, logLevel } = require("kafkajs");

const [mode, bootstrap, topic, ...words] = process.argv.slice(2);
const kafka = new Kafka({
  brokers: [bootstrap],
  clientId: "kafkajs",
  logLevel: logLevel.NOTHING,
  retry: { initialRetryTime: 50, maxRetryTime: 1000, retries: 50 },
});
const codecs = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP };

async function produce(codec, idempotent) {
  const once = idempotent === "1";
  const producer = kafka.producer({ idempotent: once, maxInFlightRequests: once ? 1 : null });
  await producer.connect();
  let waiting = [];
  let acked = 0;
  const send = async () => {
    const messages = waiting.map((value) => ({ value, partition: 0 }));
    waiting = [];
    if (messages.length) await producer.send({ topic, acks: -1, compression: codecs[codec], messages });
    acked += messages.length;
    console.log("acked " + acked);
  };
  for await (const line of readline.createInterface({ input: process.stdin })) {
    waiting.push(line);
    if (waiting.length >= 50) await send();
  }
  await send();
  await producer.disconnect();
}

async function read(count) {
  const consumer = kafka.consumer({ groupId: `read-${topic}`, maxWaitTimeInMs: 100 });
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  let left = Number(count);
  await new Promise((done) =>
    consumer.run({
      eachMessage: async ({ message }) => {
        if (left > 0) console.log(`${message.value}`);
        left -= 1;
        if (left === 0) done();
      },
    }),
  );
  await consumer.disconnect();
}

async function offsets(milliseconds) {
  const admin = kafka.admin();
  await admin.connect();
  const [ends] = await admin.fetchTopicOffsets(topic);
  const [timed] = await admin.fetchTopicOffsetsByTimestamp(topic, Number(milliseconds));
  console.log(`${ends.low} ${ends.high} ${timed.offset}`);
  await admin.disconnect();
}

async function administer() {
  const admin = kafka.admin();
  await admin.connect();
  const count = async () => (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions.length;
  const configEntries = [{ name: "retention.ms", value: "60000" }];
  await admin.createTopics({ topics: [{ topic, numPartitions: 3, replicationFactor: 1, configEntries }] });
  console.log(`created ${await count()}`);
  await admin.createPartitions({ topicPartitions: [{ topic, count: 5 }] });
  console.log(`grown ${await count()}`);
  await admin.deleteTopics({ topics: [topic] });
  console.log((await admin.listTopics()).includes(topic) ? "deleted False" : "deleted True");
  await admin.disconnect();
}

({ produce, read, offsets, admin: administer })[mode](...words).then(
  () => process.exit(0),
  (failure) => {
    console.error(failure);
    process.exit(1);
  },
);
