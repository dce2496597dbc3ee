// A service and a client of gRPC's own interoperability protocol, and h2spec, which tries a server's HTTP/2.
//
//	main serve PORT        the service
//	main calls ADDRESS     calls of every kind; prints their names
//	main denied ADDRESS    one call that has to be refused; prints its code and message
//	main h2spec PORT       every case of h2spec; prints how many, and FAILED before each that does
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	"github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func main() {
	if len(os.Args) != 3 {
		fail(fmt.Errorf("serve PORT | calls ADDRESS | denied ADDRESS | h2spec PORT"))
	}
	run := map[string]func(string) error{
		"serve": serve, "calls": calls, "denied": denied, "h2spec": conform,
	}[os.Args[1]]
	if err := run(os.Args[2]); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

type service struct {
	testgrpc.UnimplementedTestServiceServer
}

// Each method answers with as much as it was asked for, and says so in its trailers.
func (service) UnaryCall(ctx context.Context, in *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
	if in.ResponseStatus != nil {
		return nil, status.Error(codes.Code(in.ResponseStatus.Code), in.ResponseStatus.Message)
	}
	_ = grpc.SetTrailer(ctx, metadata.Pairs("asked", fmt.Sprint(in.ResponseSize)))
	return &testgrpc.SimpleResponse{Payload: &testgrpc.Payload{Body: make([]byte, in.ResponseSize)}}, nil
}

func (service) StreamingOutputCall(in *testgrpc.StreamingOutputCallRequest, out testgrpc.TestService_StreamingOutputCallServer) error {
	return answer(in, out)
}

func (service) StreamingInputCall(in testgrpc.TestService_StreamingInputCallServer) error {
	size := 0
	for {
		request, err := in.Recv()
		if err == io.EOF {
			in.SetTrailer(metadata.Pairs("asked", fmt.Sprint(size)))
			return in.SendAndClose(&testgrpc.StreamingInputCallResponse{AggregatedPayloadSize: int32(size)})
		}
		if err != nil {
			return err
		}
		size += len(request.Payload.Body)
	}
}

func (service) FullDuplexCall(both testgrpc.TestService_FullDuplexCallServer) error {
	for {
		request, err := both.Recv()
		if err == io.EOF {
			both.SetTrailer(metadata.Pairs("asked", "all"))
			return nil
		}
		if err != nil {
			return err
		}
		if err := answer(request, both); err != nil {
			return err
		}
	}
}

func answer(in *testgrpc.StreamingOutputCallRequest, out interface {
	Send(*testgrpc.StreamingOutputCallResponse) error
}) error {
	for _, one := range in.ResponseParameters {
		body := &testgrpc.Payload{Body: make([]byte, one.Size)}
		if err := out.Send(&testgrpc.StreamingOutputCallResponse{Payload: body}); err != nil {
			return err
		}
	}
	return nil
}

func serve(port string) error {
	listener, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	testgrpc.RegisterTestServiceServer(server, service{})
	return server.Serve(listener)
}

func dial(address string) (testgrpc.TestServiceClient, func() error, error) {
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, nil, err
	}
	return testgrpc.NewTestServiceClient(connection), connection.Close, nil
}

func calls(address string) error {
	client, end, err := dial(address)
	if err != nil {
		return err
	}
	defer end()
	for _, one := range []struct {
		name string
		call func(context.Context, testgrpc.TestServiceClient) error
	}{
		{"unary", unary}, {"status", failing}, {"server streaming", output}, {"client streaming", input}, {"both ways", duplex},
	} {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		err := one.call(ctx, client)
		cancel()
		if err != nil {
			return fmt.Errorf("%s: %w", one.name, err)
		}
		fmt.Println(one.name)
	}
	return nil
}

func unary(ctx context.Context, client testgrpc.TestServiceClient) error {
	for _, size := range []int32{0, 1, 300_000} {
		var trailer metadata.MD
		in := &testgrpc.SimpleRequest{ResponseSize: size, Payload: &testgrpc.Payload{Body: make([]byte, size)}}
		out, err := client.UnaryCall(ctx, in, grpc.Trailer(&trailer))
		if err != nil {
			return err
		}
		if len(out.Payload.GetBody()) != int(size) || trailer.Get("asked")[0] != fmt.Sprint(size) {
			return fmt.Errorf("%d bytes and trailers %v for %d", len(out.Payload.GetBody()), trailer, size)
		}
	}
	return nil
}

// A status of the target's own, with a message that its trailers have to escape.
func failing(ctx context.Context, client testgrpc.TestServiceClient) error {
	message := "\t100 % né\r\n"
	in := &testgrpc.SimpleRequest{ResponseStatus: &testgrpc.EchoStatus{Code: int32(codes.DataLoss), Message: message}}
	_, err := client.UnaryCall(ctx, in)
	if status.Code(err) != codes.DataLoss || status.Convert(err).Message() != message {
		return fmt.Errorf("%v", err)
	}
	return nil
}

func output(ctx context.Context, client testgrpc.TestServiceClient) error {
	stream, err := client.StreamingOutputCall(ctx, asking(31415, 9, 65000))
	if err != nil {
		return err
	}
	for _, size := range []int{31415, 9, 65000} {
		if err := expect(stream, size); err != nil {
			return err
		}
	}
	if _, err := stream.Recv(); err != io.EOF {
		return fmt.Errorf("no end: %v", err)
	}
	return nil
}

func input(ctx context.Context, client testgrpc.TestServiceClient) error {
	stream, err := client.StreamingInputCall(ctx)
	if err != nil {
		return err
	}
	for _, size := range []int{27182, 8, 45904} {
		in := &testgrpc.StreamingInputCallRequest{Payload: &testgrpc.Payload{Body: make([]byte, size)}}
		if err := stream.Send(in); err != nil {
			return err
		}
	}
	out, err := stream.CloseAndRecv()
	if err != nil {
		return err
	}
	if out.AggregatedPayloadSize != 73094 || stream.Trailer().Get("asked")[0] != "73094" {
		return fmt.Errorf("%v and trailers %v", out, stream.Trailer())
	}
	return nil
}

// The next question waits for the answer: nothing may be collected on the way.
func duplex(ctx context.Context, client testgrpc.TestServiceClient) error {
	stream, err := client.FullDuplexCall(ctx)
	if err != nil {
		return err
	}
	for _, size := range []int32{31415, 9, 2653, 58979} {
		if err := stream.Send(asking(size)); err != nil {
			return err
		}
		if err := expect(stream, int(size)); err != nil {
			return err
		}
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	if _, err := stream.Recv(); err != io.EOF || stream.Trailer().Get("asked")[0] != "all" {
		return fmt.Errorf("no end: %v and trailers %v", err, stream.Trailer())
	}
	return nil
}

func asking(sizes ...int32) *testgrpc.StreamingOutputCallRequest {
	in := &testgrpc.StreamingOutputCallRequest{}
	for _, size := range sizes {
		in.ResponseParameters = append(in.ResponseParameters, &testgrpc.ResponseParameters{Size: size})
	}
	return in
}

func expect(stream interface {
	Recv() (*testgrpc.StreamingOutputCallResponse, error)
}, size int) error {
	out, err := stream.Recv()
	if err != nil {
		return err
	}
	if len(out.Payload.Body) != size {
		return fmt.Errorf("%d bytes for %d", len(out.Payload.Body), size)
	}
	return nil
}

func denied(address string) error {
	client, end, err := dial(address)
	if err != nil {
		return err
	}
	defer end()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	_, err = client.UnimplementedCall(ctx, &testgrpc.Empty{})
	if err == nil {
		return fmt.Errorf("the call was answered")
	}
	fmt.Println(status.Code(err), status.Convert(err).Message())
	return nil
}

func conform(port string) error {
	number, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	config := &config.Config{
		Host: "127.0.0.1", Port: number, Path: "/open/a", Timeout: 2 * time.Second,
		MaxHeaderLen: 4000,
	}
	for _, group := range []*spec.TestGroup{generic.Spec(), http2.Spec(), hpack.Spec()} {
		group.Test(config)
		fmt.Println("TRIED", group.Key, group.PassedCount, group.FailedCount, group.SkippedCount)
		failed(group)
	}
	return nil
}

func failed(group *spec.TestGroup) {
	for number, test := range group.Tests {
		if test.Result != nil && test.Result.Failed {
			fmt.Printf("FAILED %s/%d %s\n", group.ID(), number+1, test.Desc)
		}
	}
	for _, inner := range group.Groups {
		failed(inner)
	}
}
