package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// nginxConf is what a careful operator writes for static files: every switch
// that saves CPU is on. The same files are served on a plain and on a TLS
// port; /filter compresses while it sends, /static has a prepared .br beside
// each file.
const nginxConf = `load_module /usr/lib/nginx/modules/ngx_http_brotli_filter_module.so;
load_module /usr/lib/nginx/modules/ngx_http_brotli_static_module.so;
daemon off;
user root;
worker_processes 1;
pid {dir}/nginx.pid;
error_log stderr warn;
events { worker_connections 1024; }
http {
  access_log off;
  sendfile on;
  tcp_nopush on;
  tcp_nodelay on;
  keepalive_timeout 300s;
  keepalive_requests 100000000;
  open_file_cache max=10000 inactive=300s;
  open_file_cache_valid 300s;
  open_file_cache_min_uses 1;
  default_type application/octet-stream;
  client_body_temp_path {dir}/tmp/body;
  proxy_temp_path {dir}/tmp/proxy;
  fastcgi_temp_path {dir}/tmp/fastcgi;
  uwsgi_temp_path {dir}/tmp/uwsgi;
  scgi_temp_path {dir}/tmp/scgi;
  ssl_certificate {cert};
  ssl_certificate_key {key};
  ssl_protocols TLSv1.3;
  server {
    listen {plain};
    listen {tls} ssl;
    root {root};
    location /filter/ { brotli on; brotli_types application/octet-stream; alias {root}/object/; }
    location /static/ { brotli_static on; alias {root}/prepared/; }
    location = /ready { return 200; }
  }
}
`

// nginx is a running Debian nginx and the directory that it serves.
type nginx struct {
	*process
	plain, tls string // base URLs
	root       string // what it serves: chunk, piece, object and prepared are its directories
}

func startNginx(ctx context.Context, c Config, dir string, cert certificate) (*nginx, error) {
	n := &nginx{root: filepath.Join(dir, "root")}
	for _, d := range []string{"tmp", "root/chunk", "root/piece", "root/object", "root/prepared"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	plain, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	tls, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	n.plain, n.tls = "http://"+plain, "https://"+tls
	conf := strings.NewReplacer("{dir}", dir, "{root}", n.root, "{plain}", plain, "{tls}", tls,
		"{cert}", cert.cert, "{key}", cert.key).Replace(nginxConf)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		return nil, err
	}
	if n.process, err = start(ctx, "nginx", serverCore, nil, c.Nginx, "-p", dir, "-c", file); err != nil {
		return nil, err
	}
	if err := n.ready(ctx, n.plain+"/ready"); err != nil {
		n.stop()
		return nil, fmt.Errorf("nginx: %w", err)
	}
	return n, nil
}
