// One record in and out again, with JeroMQ: see README.md for how to run it.
import org.zeromq.SocketType;
import org.zeromq.ZContext;
import org.zeromq.ZMQ;

public class Hello {
    public static void main(String[] arguments) {
        try (ZContext context = new ZContext()) {
            ZMQ.Socket socket = context.createSocket(SocketType.REQ);
            socket.setReceiveTimeOut(10_000); // silence is no answer
            socket.connect(arguments.length > 0 ? arguments[0] : "tcp://127.0.0.1:5559");

            socket.sendMore("{\"api\":\"produce\",\"topic\":\"hello\",\"partition\":0,\"key\":\"user-7\"}");
            socket.send("hello from Java");
            String sent = answer(socket);
            String offset = sent.replaceAll(".*\"offset\":(\\d+).*", "$1");

            socket.send("{\"api\":\"fetch\",\"topic\":\"hello\",\"partition\":0,\"offset\":" + offset + "}");
            answer(socket);
            System.out.println("partition 0, offset " + offset + ": " + socket.recvStr());
        }
    }

    private static String answer(ZMQ.Socket socket) {
        String header = socket.recvStr();
        if (header == null || !header.contains("\"error\":null")) {
            throw new IllegalStateException(header == null ? "no answer within 10 s" : header);
        }
        return header;
    }
}
