package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Check is one part of a process that must work for the process to do its job.
type Check struct {
	Name  string
	Ready func() error // nil when it works; else why not
}

// HTTP is a process's HTTP side: /livez, /readyz, /metrics, and what it adds.
type HTTP struct {
	Mux     *http.ServeMux
	Metrics *prometheus.Registry
	checks  []Check
}

// NewHTTP makes the endpoints that every process has.
func NewHTTP() *HTTP {
	h := &HTTP{Mux: http.NewServeMux(), Metrics: prometheus.NewRegistry()}
	h.Metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	h.Mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]any{"status": "ok"})
	})
	h.Mux.HandleFunc("GET /readyz", h.readyz)
	h.Mux.Handle("GET /metrics", promhttp.HandlerFor(h.Metrics, promhttp.HandlerOpts{}))
	return h
}

// Check adds parts to what /readyz looks at. It is called before the server starts.
func (h *HTTP) Check(c ...Check) { h.checks = append(h.checks, c...) }

// readyz answers 200 when every part works, else 503 with the parts that don't and why.
func (h *HTTP) readyz(w http.ResponseWriter, _ *http.Request) {
	failing := map[string]string{}
	for _, c := range h.checks {
		if err := c.Ready(); err != nil {
			failing[c.Name] = err.Error()
		}
	}
	if len(failing) > 0 {
		reply(w, http.StatusServiceUnavailable, map[string]any{"status": "not ready", "failing": failing})
		return
	}
	reply(w, http.StatusOK, map[string]any{"status": "ready"})
}

func reply(w http.ResponseWriter, status int, body map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) //nolint:errchkjson // maps of strings encode; the client may be gone
}

// Serve answers on l until ctx ends, then lets requests in hand finish for at most two seconds.
func (h *HTTP) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler:           h.Mux,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	select {
	case err := <-done:
		return fmt.Errorf("http: %w", err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := srv.Shutdown(stop); err != nil {
		_ = srv.Close() // idle keep-alive connections end with the process
	}
	if err := <-done; err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("http: %w", err)
	}
	return nil
}

// WaitReady waits until every check passes, at most for d.
func (h *HTTP) WaitReady(ctx context.Context, d time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	for {
		var failing error
		for _, c := range h.checks {
			if err := c.Ready(); err != nil {
				failing = fmt.Errorf("%s: %w", c.Name, err)
			}
		}
		if failing == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w", errors.Join(failing, ctx.Err()))
		case <-time.After(10 * time.Millisecond):
		}
	}
}
