// One record in and out again: go run . [endpoint]
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/go-zeromq/zmq4"
)

type reply struct {
	Error             *struct{ Name, Message string }
	Partition, Offset int64
	Records           []struct{ Key string }
}

func main() {
	endpoint := "tcp://127.0.0.1:5559"
	if len(os.Args) > 1 {
		endpoint = os.Args[1]
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second) // silence is no answer
	defer cancel()
	socket := zmq4.NewReq(ctx)
	defer socket.Close()
	if err := socket.Dial(endpoint); err != nil {
		log.Fatal(err)
	}
	sent, _ := ask(socket, map[string]any{"api": "produce", "topic": "hello", "key": "user-7"}, []byte("hello from Go"))
	fetched, values := ask(socket, map[string]any{
		"api": "fetch", "topic": "hello", "partition": sent.Partition, "offset": sent.Offset})
	fmt.Printf("partition %d, offset %d: %s = %s\n", sent.Partition, sent.Offset, fetched.Records[0].Key, values[0])
}

func ask(socket zmq4.Socket, header map[string]any, payload ...[]byte) (answer reply, values [][]byte) {
	first, _ := json.Marshal(header)
	if err := socket.Send(zmq4.NewMsgFrom(append([][]byte{first}, payload...)...)); err != nil {
		log.Fatal(err)
	}
	message, err := socket.Recv()
	if err != nil {
		log.Fatal(err)
	}
	if err := json.Unmarshal(message.Frames[0], &answer); err != nil {
		log.Fatal(err)
	}
	if answer.Error != nil {
		log.Fatalf("%s: %s", answer.Error.Name, answer.Error.Message)
	}
	return answer, message.Frames[1:]
}
