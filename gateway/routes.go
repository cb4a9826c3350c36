package gateway

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/go-chi/chi/v5"

	"inos.dev/edge/gateway/rpc"
)

// Names of the routes in metrics.
const (
	routeChunk   = "chunk"
	routeObject  = "object"
	routeUpload  = "upload"
	routeConnect = "connect"
	routeHealth  = "health"
	routeHome    = "home"
	routeOther   = "other"
)

// methods is a route: what each method does. HEAD goes with GET, OPTIONS is
// answered for all of them, and any other method is 405 with Allow.
type methods map[string]http.HandlerFunc

// routes is the whole front door.
//
//	path                     cached by clients
//	/chunk/{hash}            for ever
//	/object/{hash}[/path]    for ever; listings 60 s; 404.html 60 s
//	/object, /upload/…       never
//	/health/…, Connect       never (Connect's reads say for themselves)
//	/                        never: the console
func (g *Gateway) routes(services []rpc.Route) chi.Router {
	r := chi.NewRouter()
	g.mount(r, routeChunk, "/chunk/{hash}", methods{"GET": g.getChunk, "PUT": g.putChunk})
	g.mount(r, routeChunk, "/chunk/{hash}/report", methods{"POST": g.reportChunk})
	object := methods{"GET": g.getObject, "PUT": g.putObject, "DELETE": g.deleteObject}
	g.mount(r, routeObject, "/object/{hash}", object)
	g.mount(r, routeObject, "/object/{hash}/*", methods{"GET": g.getObject})
	g.mount(r, routeObject, "/object", methods{"POST": g.postObject})
	g.mount(r, routeUpload, "/upload/", methods{"POST": g.createUpload, "OPTIONS": g.describeUploads})
	g.mount(r, routeUpload, "/upload/{id}", methods{"HEAD": g.headUpload, "PATCH": g.patchUpload, "DELETE": g.deleteUpload, "OPTIONS": g.describeUploads})
	g.mount(r, routeHealth, "/health/live", methods{"GET": g.live})
	g.mount(r, routeHealth, "/health/ready", methods{"GET": g.readiness})
	g.mount(r, routeHome, "/", methods{"GET": g.home})
	for _, s := range services {
		r.Mount(s.Prefix, g.service(s.Handler))
	}
	r.NotFound(g.noRoute)
	r.MethodNotAllowed(g.unknownMethod)
	return r
}

func (g *Gateway) mount(r chi.Router, route, pattern string, m methods) {
	if get, ok := m["GET"]; ok {
		m["HEAD"] = get
	}
	allowed := make([]string, 0, len(m)+1)
	for name := range m {
		allowed = append(allowed, name)
	}
	if m["OPTIONS"] == nil {
		allowed = append(allowed, "OPTIONS")
	}
	slices.Sort(allowed)
	allow := strings.Join(allowed, ", ")
	r.HandleFunc(pattern, func(rw http.ResponseWriter, req *http.Request) {
		recorderOf(rw).route = route
		method := req.Method
		// tus clients behind old proxies send PATCH and DELETE as POST.
		if override := req.Header.Get("X-Http-Method-Override"); override != "" && method == "POST" && route == routeUpload {
			method = override
		}
		if h, ok := m[method]; ok {
			h(rw, req)
			return
		}
		if method == http.MethodOptions {
			preflight(rw, req, allow)
			return
		}
		readable(rw.Header())
		rw.Header().Set("Allow", allow)
		g.fail(rw, req, noHash, fmt.Errorf("%w: it takes %s", errMethod, allow))
	})
}

// noRoute answers what no route takes.
func (g *Gateway) noRoute(w http.ResponseWriter, r *http.Request) {
	readable(w.Header())
	g.answerProblem(w, r, problem{Type: "urn:inos:problem:no-route", Title: "No such address", Status: http.StatusNotFound,
		Detail: "there is /chunk/HASH, /object/HASH, /upload/, /health/ready and the Connect services"}, 0)
}

// unknownMethod answers methods that HTTP does not define (RFC 9110, section
// 9.1).
func (g *Gateway) unknownMethod(w http.ResponseWriter, r *http.Request) {
	readable(w.Header())
	g.answerProblem(w, r, problem{Type: "urn:inos:problem:unknown-method", Title: "Unknown method", Status: http.StatusNotImplemented,
		Detail: "this method is not known here"}, 0)
}

func (g *Gateway) live(w http.ResponseWriter, _ *http.Request) {
	w.Header()["Cache-Control"] = noStore
	w.WriteHeader(http.StatusNoContent)
}

func (g *Gateway) readiness(w http.ResponseWriter, r *http.Request) {
	if err := g.ready(); err != nil {
		g.answerProblem(w, r, problem{Type: "urn:inos:problem:not-ready", Title: "Not ready", Status: http.StatusServiceUnavailable, Detail: err.Error()}, 0)
		return
	}
	g.live(w, r)
}

// home is what stands where the console will be.
func (g *Gateway) home(rw http.ResponseWriter, r *http.Request) {
	w := recorderOf(rw)
	if err := g.mayRead(w, r); err != nil {
		g.fail(w, r, noHash, err)
		return
	}
	info, err := g.cfg.Node(r.Context())
	if err != nil {
		g.fail(w, r, noHash, err)
		return
	}
	header := w.Header()
	header["Cache-Control"] = noStore
	header["Content-Security-Policy"] = consolePages
	header["X-Content-Type-Options"] = nosniff
	header["Referrer-Policy"] = noReferrer
	header.Set("Content-Type", "text/html; charset=utf-8")
	if r.Method == http.MethodHead {
		w.WriteHeader(http.StatusOK)
		return
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	state := "ready"
	if err := g.ready(); err != nil {
		state = "not ready: " + err.Error()
	}
	err = g.templates.home.Execute(w, map[string]any{
		"Version": info.Version, "Since": g.started.UTC().Format("2006-01-02 15:04:05 UTC"), "Chunks": info.Chunks,
		"Bytes": info.Bytes, "Free": info.Free, "State": state, "URL": scheme + "://" + r.Host,
	})
	g.mustWrite(err, r)
}
