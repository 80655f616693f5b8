// A consumer of the Java client that says what happens to it, a line each, and ends when its input does.
//
//   java -cp <kafka> GroupMember.java <bootstrap> <group> <topic> <instance or ""> <assignor> <session ms>

import java.io.IOException;
import java.time.Duration;
import java.util.Collection;
import java.util.List;
import java.util.Properties;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.WakeupException;

public class GroupMember {
    static void say(String word, Collection<TopicPartition> partitions) {
        System.out.println(word + partitions.stream()
            .map(each -> " " + each.topic() + ":" + each.partition()).collect(Collectors.joining()));
    }

    public static void main(String[] words) {
        Properties options = new Properties();
        options.put("bootstrap.servers", words[0]);
        options.put("group.id", words[1]);
        options.put("client.id", "java");
        options.put("auto.offset.reset", "earliest");
        options.put("enable.auto.commit", "false");
        options.put("session.timeout.ms", words[5]);
        options.put("heartbeat.interval.ms", "500");
        options.put("key.deserializer", "org.apache.kafka.common.serialization.ByteArrayDeserializer");
        options.put("value.deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
        options.put("partition.assignment.strategy", "org.apache.kafka.clients.consumer." + words[4]);
        if (!words[3].isEmpty()) {
            options.put("group.instance.id", words[3]);
        }
        KafkaConsumer<byte[], String> consumer = new KafkaConsumer<>(options);
        Thread watcher = new Thread(() -> {
            try {
                while (System.in.read() >= 0) { }
            } catch (IOException closed) {
                // the same as its end
            }
            consumer.wakeup();
        });
        watcher.setDaemon(true);
        watcher.start();
        consumer.subscribe(List.of(words[2]), new ConsumerRebalanceListener() {
            public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                say("gained", partitions);
            }

            public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                say("lost", partitions);
            }
        });
        try {
            while (true) {
                for (var record : consumer.poll(Duration.ofMillis(100))) {
                    System.out.println(
                        "record " + record.topic() + ":" + record.partition() + " " + record.offset() + " " + record.value());
                }
                try {
                    consumer.commitSync();
                } catch (WakeupException end) {
                    throw end;
                } catch (KafkaException rebalance) {
                    // what was read is read once more, by somebody
                }
            }
        } catch (WakeupException end) {
            consumer.close();
        }
    }
}
