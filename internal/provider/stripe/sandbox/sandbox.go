package sandbox

import (
	"context"
	"net/http"

	"github.com/rs/zerolog"
)

// Config says how a sandbox starts. The zero value works.
type Config struct {
	BaseURL string         // of hosted pages, without a trailing slash; empty: taken from each request's Host
	Logger  zerolog.Logger // errors and deliveries, never bodies
}

// Server is one sandbox.
type Server struct {
	mux *http.ServeMux
}

// New makes an empty sandbox.
func New(Config) (*Server, error) {
	s := &Server{mux: http.NewServeMux()}
	s.registerPages(s.mux)
	return s, nil
}

// ServeHTTP answers API calls, control calls and hosted pages.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Run delivers webhooks until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}
