package conformance

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	conformancev1 "inos.dev/edge/gateway/conformance/gen/connectrpc/conformance/v1"
)

// maxRequest bounds what the suite may say on standard input.
const maxRequest = 1 << 20

// serve is one server process of the suite: it reads what the suite wants,
// says where it listens, and serves until it is told to end.
func serve(in io.Reader, out io.Writer) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	want, err := readRequest(in)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer ln.Close()
	addr := ln.Addr().(*net.TCPAddr)
	said := &conformancev1.ServerCompatResponse{Host: addr.IP.String(), Port: uint32(addr.Port)}

	dir, err := os.MkdirTemp("", "inos-conformance-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	srv, err := node(dir, connect.WithReadMaxBytes(int(want.GetMessageReceiveLimit())))
	if err != nil {
		return err
	}
	run := func() error { return srv.Serve(ln) }
	if want.GetUseTls() {
		cert, err := tls.X509KeyPair(want.GetServerCreds().GetCert(), want.GetServerCreds().GetKey())
		if err != nil {
			return err
		}
		srv.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
		said.PemCert = want.GetServerCreds().GetCert()
		run = func() error { return srv.ServeTLS(ln, "", "") }
	}
	if err := writeResponse(out, said); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- run() }()
	select {
	case err = <-ended:
		return err
	case <-ctx.Done():
	}
	if err = srv.Close(); err != nil {
		return err
	}
	if err = <-ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Messages of the suite have their length before them, in 4 bytes.

func readRequest(in io.Reader) (*conformancev1.ServerCompatRequest, error) {
	var size uint32
	if err := binary.Read(in, binary.BigEndian, &size); err != nil {
		return nil, err
	}
	if size > maxRequest {
		return nil, fmt.Errorf("a request of %d bytes", size)
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(in, b); err != nil {
		return nil, err
	}
	req := &conformancev1.ServerCompatRequest{}
	return req, proto.Unmarshal(b, req)
}

func writeResponse(out io.Writer, resp *conformancev1.ServerCompatResponse) error {
	b, err := proto.Marshal(resp)
	if err != nil {
		return err
	}
	_, err = out.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
	return err
}
