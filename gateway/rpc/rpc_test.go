package rpc

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"
)

func TestNewWantsItsParts(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("an empty Config is accepted")
	}
	cfg := newFakeNode(t).config()
	cfg.Timeout = -1
	if _, err := New(cfg); err == nil {
		t.Error("a negative timeout is accepted")
	}
}

func TestHealth(t *testing.T) {
	n := newFakeNode(t)
	cfg := n.config()
	ready := false
	cfg.Ready = func() bool { return ready }
	h := health{cfg.Ready, []string{"inos.cas.v1.CasService"}}
	for _, tc := range []struct {
		service string
		ready   bool
		want    grpchealth.Status
	}{
		{"", false, grpchealth.StatusNotServing},
		{"", true, grpchealth.StatusServing},
		{"inos.cas.v1.CasService", true, grpchealth.StatusServing},
	} {
		ready = tc.ready
		resp, err := h.Check(t.Context(), &grpchealth.CheckRequest{Service: tc.service})
		if err != nil || resp.Status != tc.want {
			t.Errorf("%q, ready %t: %v, %v", tc.service, tc.ready, resp, err)
		}
	}
	_, err := h.Check(t.Context(), &grpchealth.CheckRequest{Service: "other"})
	check(t, "other", nil, connect.CodeOf(err).String(), "not_found")

	srv := serve(t, n)
	resp, err := grpchealth.NewClient(srv.Client(), srv.URL).Check(t.Context(), &grpchealth.CheckRequest{})
	if err != nil || resp.Status != grpchealth.StatusServing {
		t.Errorf("over the wire: %v, %v", resp, err)
	}
}

func TestReflection(t *testing.T) {
	srv := serve(t, newFakeNode(t))
	stream := grpcreflect.NewClient(h2c(t), srv.URL, connect.WithGRPC()).NewStream(t.Context())
	names, err := stream.ListServices()
	if err != nil || len(names) != 2 || !slices.Contains(names, "inos.cas.v1.CasService") {
		t.Fatalf("%v, %v", names, err)
	}
	files, err := stream.FileContainingSymbol("inos.cas.v1.CasService")
	if err != nil || len(files) == 0 {
		t.Errorf("%v, %v", files, err)
	}
	if _, err := stream.Close(); err != nil {
		t.Error(err)
	}
}

// TestPreflight asks what a browser asks before a call from another origin.
func TestPreflight(t *testing.T) {
	srv := serve(t, newFakeNode(t))
	for _, tc := range []struct {
		method, headers string
		allowed         bool
	}{
		{"POST", "connect-protocol-version,content-type", true},
		{"POST", "authorization,content-type,x-grpc-web,x-user-agent", true},
		{"GET", "connect-timeout-ms", true},
		{"DELETE", "content-type", false},
		{"POST", "content-type,x-other", false},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, srv.URL+"/inos.cas.v1.CasService/Stat", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Origin", "https://example.com")
		req.Header.Set("Access-Control-Request-Method", tc.method)
		req.Header.Set("Access-Control-Request-Headers", tc.headers)
		resp, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		h := resp.Header
		if allowed := h.Get("Access-Control-Allow-Origin") == "*"; allowed != tc.allowed || resp.StatusCode != http.StatusNoContent {
			t.Errorf("%s %s: %s %v", tc.method, tc.headers, resp.Status, h)
		}
		if tc.allowed && (h.Get("Access-Control-Max-Age") != "7200" || h.Get("Access-Control-Allow-Headers") != tc.headers) {
			t.Errorf("%s %s: %v", tc.method, tc.headers, h)
		}
	}
}

func TestExposedHeaders(t *testing.T) {
	srv := serve(t, newFakeNode(t))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+"/inos.cas.v1.CasService/GetNode", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Origin", "https://example.com")
	req.Header.Set("Content-Type", "application/json")
	resp, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	exposed := resp.Header.Get("Access-Control-Expose-Headers")
	for _, name := range []string{"Grpc-Status", "Grpc-Message", "Grpc-Status-Details-Bin", "Retry-After"} {
		if !strings.Contains(exposed, name) {
			t.Errorf("%s is not exposed: %q", name, exposed)
		}
	}
	if resp.Header.Get("Access-Control-Allow-Origin") != "*" || resp.Header.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("%v", resp.Header)
	}
}
