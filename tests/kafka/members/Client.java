// A client of Apache Kafka's own that does one thing; see client.py, which says what each mode is.
//
//   java -cp <kafka> Client MODE BOOTSTRAP TOPIC [ARGUMENT ...]

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;

public class Client {
    static final String STRINGS = "org.apache.kafka.common.serialization.String";
    static final long WAIT_S = 60;

    public static void main(String[] words) throws Exception {
        String bootstrap = words[1], topic = words[2];
        switch (words[0]) {
            case "produce" -> produce(bootstrap, topic, words[3], words[4].equals("1"));
            case "read" -> read(bootstrap, topic, Integer.parseInt(words[3]));
            case "offsets" -> offsets(bootstrap, topic, Long.parseLong(words[3]));
            case "admin" -> administer(bootstrap, topic);
            default -> throw new IllegalArgumentException(words[0]);
        }
    }

    static void produce(String bootstrap, String topic, String codec, boolean idempotent) throws Exception {
        Properties options = new Properties();
        options.put("bootstrap.servers", bootstrap);
        options.put("acks", "all");
        options.put("compression.type", codec);
        options.put("enable.idempotence", String.valueOf(idempotent));
        options.put("retry.backoff.ms", "50");
        options.put("linger.ms", "5");
        options.put("key.serializer", STRINGS + "Serializer");
        options.put("value.serializer", STRINGS + "Serializer");
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(options)) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            int acked = 0;
            for (String line = lines.readLine(); ; line = lines.readLine()) {
                if (line != null) {
                    sent.add(producer.send(new ProducerRecord<>(topic, 0, null, line)));
                }
                if (line == null || sent.size() >= 50) {
                    for (Future<RecordMetadata> future : sent) {
                        future.get(WAIT_S, TimeUnit.SECONDS);
                    }
                    acked += sent.size();
                    sent.clear();
                    System.out.println("acked " + acked);
                }
                if (line == null) {
                    return;
                }
            }
        }
    }

    static KafkaConsumer<String, String> consumer(String bootstrap) {
        Properties options = new Properties();
        options.put("bootstrap.servers", bootstrap);
        options.put("auto.offset.reset", "earliest");
        options.put("enable.auto.commit", "false");
        options.put("key.deserializer", STRINGS + "Deserializer");
        options.put("value.deserializer", STRINGS + "Deserializer");
        return new KafkaConsumer<>(options);
    }

    static void read(String bootstrap, String topic, int count) {
        try (KafkaConsumer<String, String> consumer = consumer(bootstrap)) {
            consumer.assign(List.of(new TopicPartition(topic, 0)));
            while (count > 0) {
                for (var record : consumer.poll(Duration.ofMillis(100))) {
                    System.out.println(record.value());
                    count--;
                }
            }
        }
    }

    static void offsets(String bootstrap, String topic, long milliseconds) {
        TopicPartition place = new TopicPartition(topic, 0);
        try (KafkaConsumer<String, String> consumer = consumer(bootstrap)) {
            long first = consumer.beginningOffsets(List.of(place)).get(place);
            long end = consumer.endOffsets(List.of(place)).get(place);
            System.out.println(first + " " + end + " " + consumer.offsetsForTimes(Map.of(place, milliseconds)).get(place).offset());
        }
    }

    static int count(Admin admin, String topic) throws Exception {
        return admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size();
    }

    static void administer(String bootstrap, String topic) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            NewTopic wanted = new NewTopic(topic, 3, (short) 1).configs(Map.of("retention.ms", "60000"));
            admin.createTopics(List.of(wanted)).all().get();
            System.out.println("created " + count(admin, topic));
            admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(5))).all().get();
            System.out.println("grown " + count(admin, topic));
            admin.deleteTopics(List.of(topic)).all().get();
            System.out.println(admin.listTopics().names().get().contains(topic) ? "deleted False" : "deleted True");
        }
    }
}
