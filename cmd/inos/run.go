package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/dag"
	"inos.dev/edge/cas/disk"
	"inos.dev/edge/cas/tier"
	"inos.dev/edge/gateway"
	"inos.dev/edge/gateway/auth"
	"inos.dev/edge/gateway/catalog"
	"inos.dev/edge/gateway/content"
	"inos.dev/edge/gateway/upload"
	"inos.dev/edge/mesh"
	"inos.dev/edge/mesh/exchange"
	"inos.dev/edge/mesh/exchange/upstream"
)

// node is a running node: what serve builds, bottom up. Each step adds what
// close takes down again, last first.
type node struct {
	cfg     *serveCmd
	log     *slog.Logger
	started time.Time

	registry *prometheus.Registry
	store    *disk.Store
	cache    *tier.Cache
	deny     *content.Deny
	fills    *exchange.Exchange
	key      mesh.Secret
	catalog  *catalog.Bolt
	content  *content.Content
	writer   *dag.Writer
	uploads  *upload.Sessions
	verifier *auth.Verifier
	policy   *auth.Policy
	gateway  *gateway.Gateway
	accounts
	cert *gateway.Certificate

	listeners []listener
	closers   []func() error
}

// listener is a socket with the server behind it.
type listener struct {
	net.Listener
	server *http.Server
	tls    bool
}

// gcBallast is memory that is never touched, so that it costs address space
// and no RAM. It makes the collector of a small node wait for so many bytes of
// garbage, instead of for the 4 MiB that a heap of a few requests has.
const gcBallast = 32 << 20

// run builds the node, serves until ctx is done, and drains.
func (n *node) run(ctx context.Context) error {
	ballast := make([]byte, gcBallast)
	defer runtime.KeepAlive(ballast)
	if n.cfg.Memory > 0 {
		debug.SetMemoryLimit(int64(n.cfg.Memory))
	}
	for _, step := range []func() error{
		n.openStore, n.openCatalog, n.openFills, n.openEvents, func() error { return n.openPayers(ctx) }, n.openContent, n.openUploads, n.openAuth,
		func() error { return n.openBooks(ctx) }, n.openHeat, n.openGateway,
		func() error { return n.openListeners(ctx) }, func() error { return n.openAdmin(ctx) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return n.serve(ctx)
}

func (n *node) onClose(f func() error) { n.closers = append(n.closers, f) }

// close takes the node down, last opened first.
func (n *node) close() error {
	var errs []error
	for _, f := range slices.Backward(n.closers) {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

func (n *node) openStore() (err error) {
	n.registry = newRegistry()
	scrub := int64(n.cfg.ScrubRate)
	if scrub == 0 {
		scrub = -1
	}
	n.store, err = disk.Open(disk.Config{Dir: n.cfg.Data, MaxBytes: int64(n.cfg.MaxBytes), Headroom: int64(n.cfg.Headroom), ScrubRate: scrub, Logger: n.log})
	if err != nil {
		return err
	}
	n.onClose(n.store.Close)
	if err := n.registry.Register(storeMetrics{n.store}); err != nil {
		return err
	}
	n.cache, err = tier.NewCache(n.store, tier.CacheConfig{MaxBytes: int64(n.cfg.ChunkCache)})
	return err
}

func (n *node) openCatalog() (err error) {
	if n.key, err = auth.OpenNodeKey(n.cfg.Data); err != nil {
		return err
	}
	if n.catalog, err = catalog.Open(n.cfg.Data, n.key); err != nil {
		return err
	}
	n.onClose(n.catalog.Close)
	return nil
}

// openFills sets up where missing chunks come from.
func (n *node) openFills() (err error) {
	if n.cfg.Deny != "" {
		if n.deny, err = content.OpenDeny(n.cfg.Deny, n.log); err != nil {
			return err
		}
	}
	observer, err := gateway.NewFillMetrics(n.registry)
	if err != nil {
		return err
	}
	var providers []exchange.Provider
	for _, url := range n.cfg.Upstream {
		u, err := upstream.New(upstream.Config{URL: url})
		if err != nil {
			return fmt.Errorf("--upstream: %w", err)
		}
		providers = append(providers, u)
	}
	n.fills, err = exchange.New(exchange.Config{
		Store: n.cache, Providers: providers, Denied: n.deny.Has, FillTimeout: time.Duration(n.cfg.FillTimeout), Logger: n.log, Observer: observer,
	})
	return err
}

func (n *node) openContent() (err error) {
	var payers content.Payers
	if n.payers != nil { // an interface that holds nil is not nil
		payers = n.payers
	}
	n.content, err = content.New(content.Config{
		Payers: payers, Announce: n.published,
		Store: n.cache, Keeper: keeper{n.store, n.cache}, Catalog: n.catalog, Key: n.key, Filler: n.fills, Deny: n.deny,
		Sweep: n.sweep, Grace: time.Duration(n.cfg.Grace), Logger: n.log,
		DecodedBytes: int64(n.cfg.DecodedCache), ManifestBytes: int64(n.cfg.ManifestCache),
		Uploading: func(ctx context.Context, keep func(cas.Hash)) error { return n.uploads.Keep(ctx, keep) },
	})
	return err
}

// keeper is the disk, with the memory in front told of what the disk drops.
type keeper struct {
	*disk.Store
	cache *tier.Cache
}

func (k keeper) Report(ctx context.Context, h cas.Hash) error {
	err := k.Store.Report(ctx, h)
	if errors.Is(err, cas.ErrCorrupt) {
		k.cache.Forget(h)
	}
	return err
}

// sweep is the disk's, with the memory in front told of every chunk that goes.
func (n *node) sweep(ctx context.Context, live func(cas.Hash) bool, before time.Time) (int, int64, error) {
	st, err := n.store.Sweep(ctx, live, before, n.cache.Forget)
	return st.Swept, st.Bytes, err
}

func (n *node) openUploads() (err error) {
	n.writer = dag.NewWriter(n.content, dag.WriterConfig{})
	n.uploads, err = upload.Open(upload.Config{Dir: filepath.Join(n.cfg.Data, "uploads"), Writer: n.writer, Logger: n.log})
	if err != nil {
		return err
	}
	n.onClose(n.uploads.Close)
	return nil
}

func (n *node) openGateway() (err error) {
	var egress *auth.Quota
	if n.cfg.EgressRate > 0 || n.cfg.EgressRequests > 0 {
		egress, err = auth.NewQuota(auth.QuotaConfig{BytesPerSecond: int64(n.cfg.EgressRate), RequestsPerSecond: n.cfg.EgressRequests})
		if err != nil {
			return err
		}
	}
	var access *slog.Logger
	if n.cfg.AccessLog {
		access = n.log
	}
	n.gateway, err = gateway.New(gateway.Config{
		Content: n.content, Writer: n.writer, Auth: n.verifier, Policy: n.policy, Uploads: n.uploads,
		Node: n.info, Ready: n.ready, Egress: egress, PublicURL: n.cfg.PublicURL,
		Accounts: n.accounting(), Credits: n.creditService(), HeatAPI: n.heatService(), Events: n.bus,
		MaxRequests: n.cfg.MaxRequests, MaxUploads: n.cfg.MaxUploads, MaxObject: int64(n.cfg.MaxObject), MinRate: int64(n.cfg.MinRate),
		Registry: n.registry, Logger: n.log, AccessLog: access,
	})
	return err
}

// openAuth opens the node's issuer key, and keeps the operator's token fresh.
func (n *node) openAuth() error {
	issuer, err := auth.OpenIssuer(n.cfg.Data)
	if err != nil {
		return err
	}
	if _, err := auth.OpenOperatorToken(n.cfg.Data, issuer, time.Now()); err != nil {
		return err
	}
	trusted, err := n.cfg.trusted()
	if err != nil {
		return err
	}
	if n.verifier, err = auth.NewVerifier(auth.Config{Own: issuer.Public(), Trusted: trusted, Dev: n.cfg.Dev}); err != nil {
		return err
	}
	audit := n.cfg.AuditLog
	if audit == "" {
		audit = filepath.Join(n.cfg.Data, "audit.log")
	}
	if n.policy, err = auth.OpenPolicy(auth.PolicyConfig{Rules: n.cfg.Policy, Audit: audit, Registry: n.registry, Logger: n.log}); err != nil {
		return err
	}
	n.onClose(n.policy.Close)
	return nil
}

func (n *node) openListeners(ctx context.Context) error {
	if n.cfg.Listen != "" {
		if err := n.listen(ctx, n.cfg.Listen, n.gateway.Server(false), false); err != nil {
			return err
		}
	}
	if n.cfg.TLSListen != "" {
		var err error
		if n.cert, err = gateway.OpenCertificate(n.cfg.TLSCert, n.cfg.TLSKey, n.log); err != nil {
			return err
		}
		server := n.gateway.Server(false)
		server.TLSConfig = n.cert.Config()
		if err := n.listen(ctx, n.cfg.TLSListen, server, true); err != nil {
			return err
		}
	}
	if n.cfg.Proxy == "" {
		return nil
	}
	l, err := listenProxy(ctx, n.cfg.Proxy)
	if err != nil {
		return err
	}
	n.serveLater(listener{l, n.gateway.Server(true), false})
	return nil
}

func (n *node) listen(ctx context.Context, addr string, server *http.Server, tls bool) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	n.serveLater(listener{l, server, tls})
	return nil
}

func (n *node) serveLater(l listener) {
	n.onClose(func() error { return ignoreClosed(l.Close()) })
	n.listeners = append(n.listeners, l)
}

// openAdmin adds the operator's listener.
func (n *node) openAdmin(ctx context.Context) error {
	if n.cfg.Admin == "" {
		return nil
	}
	return n.listen(ctx, n.cfg.Admin, adminServer(n, n.gateway.Admits), false)
}

// serve runs everything under one group until ctx is done, then drains.
func (n *node) serve(ctx context.Context) error {
	// What carries requests outlives them: it ends when they are drained.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, work := errgroup.WithContext(work)
	runs := []func(context.Context) error{n.store.Run, n.fills.Run, n.content.Run, n.uploads.Run, n.deny.Run, n.policy.Run, n.collect}
	for _, run := range append(runs, n.accountRuns()...) {
		g.Go(func() error { return run(work) })
	}
	if n.cert != nil {
		g.Go(func() error { return n.cert.Run(work) })
	}
	for _, l := range n.listeners {
		g.Go(func() error { return serveOn(l) })
		n.log.Info("listening", "network", l.Addr().Network(), "address", l.Addr().String(), "tls", l.tls)
	}
	n.log.Info("ready", "chunks", n.store.Stats().Chunks, "took", time.Since(n.started).Round(time.Millisecond), "version", version)
	g.Go(func() error {
		select {
		case <-ctx.Done():
		case <-work.Done(): // something failed: the rest goes down, too
		}
		defer stop()
		return n.drain() //nolint:contextcheck // ctx is over, the requests are not
	})
	return g.Wait()
}

func serveOn(l listener) error {
	var err error
	if l.tls {
		err = l.server.ServeTLS(l.Listener, "", "")
	} else {
		err = l.server.Serve(l.Listener)
	}
	return ignoreClosed(err)
}

func ignoreClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// drain stops listening and gives the running requests their time.
func (n *node) drain() error {
	n.gateway.Drain()
	n.bus.Drain()
	n.log.Info("draining", "requests", n.gateway.Active())
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(n.cfg.Drain))
	defer cancel()
	var g errgroup.Group
	for _, l := range n.listeners {
		g.Go(func() error {
			if err := l.server.Shutdown(ctx); err != nil {
				n.log.Warn("requests were cut off", "error", err)
				return l.server.Close()
			}
			return nil
		})
	}
	err := g.Wait()
	n.settle()
	return err
}

// settle waits for requests that were cut off: their handlers outlive Close by
// a moment, in which they charge what they have sent.
func (n *node) settle() {
	late := time.After(lastSettle)
	for n.gateway.Active() > 0 {
		select {
		case <-late:
			n.log.Warn("requests are still running; what they have sent is not charged", "requests", n.gateway.Active())
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// lastSettle is how long requests that were cut off have for that.
const lastSettle = time.Second

// collect removes chunks that no object names, from time to time.
func (n *node) collect(ctx context.Context) error {
	if n.cfg.Collect == 0 {
		return nil
	}
	tick := time.NewTicker(time.Duration(n.cfg.Collect))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		done, err := n.content.Collect(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			n.log.Error("collection failed", "error", err)
		case done.Chunks > 0 || done.Expired > 0:
			n.log.Info("collected", "chunks", done.Chunks, "bytes", done.Bytes, "expired", done.Expired)
		}
	}
}
