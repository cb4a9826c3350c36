package rpc

import (
	"net/http"

	connectcors "connectrpc.com/cors"
	"github.com/rs/cors"
)

// preflightAge is how many seconds a browser may remember a preflight; no
// browser remembers longer than two hours.
const preflightAge = 7200

// CORS lets pages of any origin call h. No cookie counts here: a call that
// needs a right carries a token, which a foreign page does not have unless
// somebody gave it one.
func CORS(h http.Handler) http.Handler {
	return cors.New(cors.Options{
		AllowedOrigins: []string{"*"},
		AllowedMethods: connectcors.AllowedMethods(),
		AllowedHeaders: append(connectcors.AllowedHeaders(), "Authorization"),
		ExposedHeaders: append(connectcors.ExposedHeaders(), "Retry-After", "WWW-Authenticate"),
		MaxAge:         preflightAge,
	}).Handler(h)
}
