package sandbox

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

const (
	apiVersion           = "2023-10-16"
	defaultAccountID     = "acct_1PaykitSandbox00"
	defaultMerchant      = "Sandbox Store"
	defaultSettleAfter   = time.Second
	defaultDelayedAfter  = 5 * time.Second
	defaultDeliveryLimit = 10 * time.Second
)

// Config says how a sandbox starts. The zero value works.
type Config struct {
	BaseURL         string            // of the hosted pages; empty: taken from each request's Host. SetBaseURL changes it
	AccountID       string            // the one Stripe account played; default acct_1PaykitSandbox00
	MerchantName    string            // shown on the hosted pages; default "Sandbox Store"
	Logger          zerolog.Logger    // faults and deliveries; never bodies, secrets or card data
	Now             func() time.Time  // default time.Now; /_sandbox/clock/advance moves the sandbox's clock on from it
	Entropy         io.Reader         // for ids and shuffling; default crypto/rand
	SettleAfter     time.Duration     // how long disputes, fraud warnings and the second answer of a refund take; default 1 s
	DelayedAfter    time.Duration     // how long a bank debit takes to be paid or refused; default 5 s
	DeliveryTimeout time.Duration     // how long a webhook receiver may take; default 10 s
	Transport       http.RoundTripper // of deliveries; default one of its own
	StateFile       string            // keeps everything but faults and the behaviour of deliveries across restarts; empty: memory only
}

// Server is one sandbox. It is safe for concurrent use; several may run in one process and share nothing.
type Server struct {
	cfg    Config
	mux    *http.ServeMux
	client *http.Client
	wake   chan struct{} // capacity 1: there is something new for Run
	done   chan struct{} // closed by Close
	close  sync.Once

	mu       sync.Mutex // guards everything below and every object in it; taken by enter, given back by leave
	baseURL  string
	planned  taskHeap // of the table tasks
	seq      int64    // see next
	faults   []*fault
	behavior deliveryBehavior
	state    *stateFile // nil: nothing is kept
	tables
}

// New makes a sandbox: an empty one, or with Config.StateFile one that goes on where that file ends. A file that is damaged
// or of another version is put aside under another name, with a warning, and the sandbox is empty. New fails when it has no
// entropy to make ids from, when the file can't be read or written, and with ErrInUse.
func New(cfg Config) (*Server, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Entropy == nil {
		cfg.Entropy = rand.Reader
	}
	if _, err := io.ReadFull(cfg.Entropy, make([]byte, 8)); err != nil {
		return nil, errors.Join(errors.New("sandbox: no entropy for ids"), err)
	}
	cfg.AccountID = orDefault(cfg.AccountID, defaultAccountID)
	cfg.MerchantName = orDefault(cfg.MerchantName, defaultMerchant)
	cfg.SettleAfter = orDefault(cfg.SettleAfter, defaultSettleAfter)
	cfg.DelayedAfter = orDefault(cfg.DelayedAfter, defaultDelayedAfter)
	cfg.DeliveryTimeout = orDefault(cfg.DeliveryTimeout, defaultDeliveryLimit)
	if cfg.Transport == nil {
		cfg.Transport = &http.Transport{MaxIdleConnsPerHost: deliveriesAtOnce, IdleConnTimeout: time.Minute}
	}
	s := &Server{
		cfg: cfg, mux: http.NewServeMux(), baseURL: strings.TrimRight(cfg.BaseURL, "/"),
		wake: make(chan struct{}, 1), done: make(chan struct{}),
		client: &http.Client{
			Timeout:       cfg.DeliveryTimeout,
			Transport:     cfg.Transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		tables: newTables(),
	}
	if cfg.StateFile != "" {
		if err := s.openState(); err != nil {
			return nil, fmt.Errorf("sandbox: state file %s: %w", cfg.StateFile, err)
		}
	}
	s.registerAPI()
	s.registerControl()
	s.registerPages(s.mux)
	return s, nil
}

func orDefault[T comparable](v, byDefault T) T {
	var zero T
	if v == zero {
		return byDefault
	}
	return v
}

// ServeHTTP answers API calls under /v1/, control calls under /_sandbox/, and the hosted pages. With a state file nothing
// is answered before what it says is kept there.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.state != nil {
		s.state.requests(1, s.closed)
		defer s.state.requests(-1, s.closed)
		w = &keptAnswer{ResponseWriter: w, state: s.state}
	}
	s.mux.ServeHTTP(w, r)
}

// enter begins a step: nobody else sees or changes anything until leave.
func (s *Server) enter() { s.mu.Lock() }

// leave ends a step. What it changed is in the state file before anyone can see it.
func (s *Server) leave() {
	defer s.mu.Unlock()
	if s.state != nil && !s.state.save() {
		s.signal() // Run ends with the reason
	}
}

// SetBaseURL says under which address the hosted pages can be reached, once that is known.
func (s *Server) SetBaseURL(base string) {
	s.enter()
	defer s.leave()
	s.baseURL = strings.TrimRight(base, "/")
}

// Run delivers webhooks and lets time pass (sessions expire, refunds settle) until ctx ends or Close is called, then
// waits for deliveries in hand, whose requests are cut off. Without Run the API works, and nothing is delivered.
// It is called once and returns nil, or why the state can't be kept any more.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var deliveries sync.WaitGroup
	defer func() {
		cancel()
		deliveries.Wait()
		s.client.CloseIdleConnections()
	}()
	for {
		s.enter()
		s.tick()
		ready, wait := s.dueDeliveries()
		s.leave()
		for _, d := range ready {
			deliveries.Go(func() { s.deliver(ctx, d) })
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-s.done:
		case <-s.wake:
		case <-timer.C:
		}
		timer.Stop()
		if s.state != nil && s.state.failure() != nil {
			return fmt.Errorf("sandbox: state file %s: %w", s.cfg.StateFile, s.state.failure())
		}
		if ctx.Err() != nil || s.closed() {
			return nil
		}
	}
}

// Close ends Run and lets go of requests that an injected delay holds, and of the state file once the last request in hand
// is answered: what comes later gets no answer if it changes anything. It may be called more than once.
func (s *Server) Close() {
	s.close.Do(func() {
		close(s.done)
		if s.state != nil {
			s.state.requests(0, s.closed)
		}
	})
	s.client.CloseIdleConnections()
}

func (s *Server) closed() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// signal wakes Run; it never blocks.
func (s *Server) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
