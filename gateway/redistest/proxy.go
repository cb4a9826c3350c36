package redistest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"strconv"
	"sync"
)

// proxy hands on what clients send, one whole command after the other, and
// counts each before the server sees it. Answers pass as they are.
type proxy struct {
	path, server string // sockets

	wg sync.WaitGroup // of everything that start began

	mu       sync.Mutex // guards the fields below
	listener net.Listener
	conns    map[net.Conn]struct{}
	total    int64
	names    map[string]int64
}

func (p *proxy) count() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.total
}

func (p *proxy) counts() map[string]int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.names)
}

// start listens; stop ends that and everything that it led to.
func (p *proxy) start() error {
	if err := os.RemoveAll(p.path); err != nil {
		return err
	}
	l, err := net.Listen("unix", p.path)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.listener, p.conns = l, make(map[net.Conn]struct{})
	if p.names == nil {
		p.names = make(map[string]int64)
	}
	p.mu.Unlock()
	p.wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return // stop closed it
			}
			p.wg.Go(func() { p.serve(client) })
		}
	})
	return nil
}

func (p *proxy) stop() {
	p.mu.Lock()
	if p.listener != nil {
		p.listener.Close()
	}
	for conn := range p.conns {
		conn.Close()
	}
	p.listener, p.conns = nil, nil
	p.mu.Unlock()
	p.wg.Wait()
}

// keep notes a connection for stop, or reports that it came too late.
func (p *proxy) keep(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conns == nil {
		return false
	}
	p.conns[conn] = struct{}{}
	return true
}

// drop closes a connection and forgets it.
func (p *proxy) drop(conn net.Conn) {
	conn.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, conn)
}

// serve ends when either side does: what fails here, the client sees as the
// end of its connection.
func (p *proxy) serve(client net.Conn) {
	defer p.drop(client)
	if !p.keep(client) {
		return
	}
	server, err := net.Dial("unix", p.server)
	if err != nil {
		return
	}
	defer p.drop(server)
	if !p.keep(server) {
		return
	}
	p.wg.Go(func() {
		defer p.drop(client)
		_, _ = io.Copy(client, server)
	})
	r := bufio.NewReader(client)
	var command []byte
	for {
		var name string
		if name, command, err = readCommand(r, command[:0]); err != nil {
			return
		}
		p.mu.Lock()
		p.total++
		p.names[name]++
		p.mu.Unlock()
		if _, err := server.Write(command); err != nil {
			return
		}
	}
}

// readCommand appends one command to b: an array of bulk strings, as every
// client library sends them, or a line.
func readCommand(r *bufio.Reader, b []byte) (name string, command []byte, err error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return "", b, err
	}
	b = append(b, line...)
	if line[0] != '*' {
		first, _, _ := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
		return string(bytes.ToUpper(first)), b, nil
	}
	n, err := strconv.Atoi(string(bytes.TrimSpace(line[1:])))
	for i := 0; err == nil && i < n; i++ {
		if line, err = r.ReadSlice('\n'); err != nil {
			break
		}
		b = append(b, line...)
		size, failed := strconv.Atoi(string(bytes.TrimSpace(line[1:])))
		if failed != nil || line[0] != '$' || size < 0 {
			return "", b, fmt.Errorf("not a bulk string: %q", line)
		}
		at := len(b)
		b = append(b, make([]byte, size+len("\r\n"))...)
		if _, err = io.ReadFull(r, b[at:]); err == nil && i == 0 {
			name = string(bytes.ToUpper(b[at : at+size]))
		}
	}
	return name, b, err
}
