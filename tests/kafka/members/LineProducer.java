// A producer of the Java client: each line of its input is a record, and it says what came of it, a line each.
//
//   java -cp <kafka> LineProducer.java <bootstrap> <topic>

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.util.Properties;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;

public class LineProducer {
    public static void main(String[] words) throws IOException, InterruptedException {
        Properties options = new Properties();
        options.put("bootstrap.servers", words[0]);
        options.put("key.serializer", "org.apache.kafka.common.serialization.StringSerializer");
        options.put("value.serializer", "org.apache.kafka.common.serialization.StringSerializer");
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(options)) {
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                try {
                    producer.send(new ProducerRecord<>(words[1], line)).get();
                    System.out.println("written");
                } catch (ExecutionException error) {
                    System.out.println(error.getCause());
                }
            }
        }
    }
}
