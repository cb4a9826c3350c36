package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"inos.dev/edge/gateway/auth"
)

// serveCmd is the configuration of a node.
type serveCmd struct {
	Data   string `help:"Data directory." default:"data" type:"path"`
	Listen string `help:"Address for HTTP/1.1 and unencrypted HTTP/2; empty for none." default:"127.0.0.1:8080"`
	Admin  string `help:"Address for metrics, and with the right admin profiles and collection; empty for none." default:"127.0.0.1:8081"`
	Dev    bool   `help:"Give requests from this machine the operator's rights, without a token. Only with loopback addresses."`

	TLSListen string `help:"Address for HTTPS." placeholder:"ADDR"`
	TLSCert   string `help:"Certificate chain (PEM), read again when it changes." type:"path" placeholder:"FILE"`
	TLSKey    string `help:"Its key (PEM)." type:"path" placeholder:"FILE"`
	Proxy     string `help:"Unix socket (mode 0660) for a proxy in front: the only listener whose forwarding headers are believed." type:"path" placeholder:"PATH"`
	PublicURL string `help:"How clients reach this node, scheme://host." placeholder:"URL"`

	Upstream    []string `help:"Another node to fetch missing chunks from; may be repeated." placeholder:"URL"`
	FillTimeout duration `help:"How long a fetch may take." default:"10s"`
	Deny        string   `help:"File of hashes that are never served, one per line; read again when it changes." type:"path" placeholder:"FILE"`
	TrustIssuer []string `help:"Public key of a further issuer of tokens; may be repeated." placeholder:"KEY"`

	Policy   string `help:"Rules that say who may do what (TOML); read again when the file changes. Default: everybody reads, the rest needs the rights of a token." type:"path" placeholder:"FILE"`
	AuditLog string `help:"File for a line about every denial, and about everything allowed that is no read. Default: audit.log in the data directory." type:"path" placeholder:"FILE"`

	MaxBytes  byteSize `help:"Most stored bytes; 0 for no cap." default:"0"`
	Headroom  byteSize `help:"Bytes of the file system that writes leave free; 0 for 2 % within reason." default:"0"`
	MaxObject byteSize `help:"Most bytes of one upload; 0 for no cap." default:"0"`
	ScrubRate byteSize `help:"Bytes per second that the scrubber reads; 0 for none." default:"8MiB"`
	Collect   duration `help:"Time between collections of chunks that no object names; 0 for none." default:"1h"`
	Grace     duration `help:"How long a chunk that no object names lives." default:"24h"`

	ChunkCache    byteSize `help:"Memory for small chunks." default:"32MiB"`
	DecodedCache  byteSize `help:"Memory for decoded pieces." default:"64MiB"`
	ManifestCache byteSize `help:"Memory for manifests." default:"32MiB"`
	Memory        byteSize `help:"Soft limit of the process's memory; 0 for none." default:"256MiB"`

	MaxRequests    int64    `help:"Most requests at once." default:"16384"`
	MaxUploads     int64    `help:"Most uploads at once; each that waits for its client holds 1 MiB." default:"256"`
	EgressRate     byteSize `help:"Bytes per second for one token or client network; 0 for no limit." default:"0"`
	EgressRequests float64  `help:"Requests per second for one token or client network; 0 for no limit." default:"0"`
	MinRate        byteSize `help:"Least bytes per second at which a client must send or take a body." default:"16KiB"`
	Drain          duration `help:"How long running requests may go on after a signal to stop." default:"30s"`

	accountFlags `embed:""`

	AccessLog bool   `help:"Log a line per request."`
	LogLevel  string `help:"debug, info, warn or error." enum:"debug,info,warn,error" default:"info"`
	LogFormat string `help:"text or json." enum:"text,json" default:"text"`
}

func (serveCmd) Help() string {
	return examples(
		"inos serve --dev",
		"inos serve --data /var/lib/inos --listen :8080",
		"inos serve --data /var/lib/inos --tls-listen :443 --tls-cert fullchain.pem --tls-key key.pem",
		"inos serve --data /var/cache/inos --listen :8080 --upstream http://origin.example:8080",
	)
}

// Run serves until ctx is done, then drains.
func (s *serveCmd) Run(ctx context.Context, c *console) error {
	if err := s.validate(); err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	log, err := s.logger(c)
	if err != nil {
		return err
	}
	n := &node{cfg: s, log: log, started: time.Now()}
	return errors.Join(n.run(ctx), n.close())
}

func (s *serveCmd) validate() error {
	if s.Listen == "" && s.TLSListen == "" && s.Proxy == "" {
		return errors.New("nothing to listen on: give --listen, --tls-listen or --proxy")
	}
	if s.TLSListen != "" && (s.TLSCert == "" || s.TLSKey == "") {
		return errors.New("--tls-listen needs --tls-cert and --tls-key")
	}
	if err := s.accountFlags.validate(); err != nil {
		return err
	}
	if !s.Dev {
		return nil
	}
	if s.TLSListen != "" || s.Proxy != "" {
		return errors.New("--dev is for --listen on loopback alone: leave --tls-listen and --proxy out")
	}
	for name, addr := range map[string]string{"--listen": s.Listen, "--admin": s.Admin} {
		if addr != "" && !loopback(addr) {
			return fmt.Errorf("--dev gives everybody who reaches the node all rights, and %s %s is not a loopback address: use 127.0.0.1, or leave --dev out", name, addr)
		}
	}
	return nil
}

// loopback reports whether a listen address is on loopback for sure.
func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.IsLoopback()
	}
	return host == "localhost"
}

func (s *serveCmd) logger(c *console) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.LogLevel)); err != nil {
		return nil, err
	}
	options := &slog.HandlerOptions{Level: level}
	if s.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(c.err, options)), nil
	}
	return slog.New(slog.NewTextHandler(c.err, options)), nil
}

// trusted reads the further issuers' keys.
func (s *serveCmd) trusted() ([]auth.PublicKey, error) {
	keys := make([]auth.PublicKey, 0, len(s.TrustIssuer))
	for _, text := range s.TrustIssuer {
		k, err := auth.ParsePublicKey(text)
		if err != nil {
			return nil, fmt.Errorf("--trust-issuer: %w", err)
		}
		keys = append(keys, k)
	}
	return keys, nil
}
