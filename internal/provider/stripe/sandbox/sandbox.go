package sandbox

import (
	"context"
	"crypto/rand"
	"errors"
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
	defaultDeliveryLimit = 10 * time.Second
)

// Config says how a sandbox starts. The zero value works.
type Config struct {
	BaseURL         string           // of the hosted pages; empty: taken from each request's Host. SetBaseURL changes it
	AccountID       string           // the one Stripe account played; default acct_1PaykitSandbox00
	MerchantName    string           // shown on the hosted pages; default "Sandbox Store"
	Logger          zerolog.Logger   // faults and deliveries; never bodies, secrets or card data
	Now             func() time.Time // default time.Now; /_sandbox/clock/advance moves the sandbox's clock on from it
	Entropy         io.Reader        // for ids and shuffling; default crypto/rand
	SettleAfter     time.Duration    // how long disputes, fraud warnings and the second answer of a refund take; default 1 s
	DeliveryTimeout time.Duration    // how long a webhook receiver may take; default 10 s
}

// Server is one sandbox. It is safe for concurrent use; several may run in one process and share nothing.
type Server struct {
	cfg    Config
	mux    *http.ServeMux
	client *http.Client
	wake   chan struct{} // capacity 1: there is something new for Run
	done   chan struct{} // closed by Close
	close  sync.Once

	mu       sync.Mutex // guards everything below and every object in it
	offset   time.Duration
	baseURL  string
	tasks    taskHeap
	taskSeq  int
	keys     map[string]*storedAnswer // by idempotency key
	faults   []*fault
	behavior deliveryBehavior

	customers table[customer]
	methods   table[paymentMethod]
	payments  table[paymentIntent]
	setups    table[setupIntent]
	charges   table[charge]
	sessions  table[checkoutSession]
	refunds   table[refund]
	disputes  table[dispute]
	balances  table[balanceTransaction]
	events    table[event]
	endpoints table[webhookEndpoint]
	actions   map[string]*action // 3-D Secure steps by their own id
}

// New makes an empty sandbox. It fails when it has no entropy to make ids from.
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
	cfg.DeliveryTimeout = orDefault(cfg.DeliveryTimeout, defaultDeliveryLimit)
	s := &Server{
		cfg: cfg, mux: http.NewServeMux(), baseURL: strings.TrimRight(cfg.BaseURL, "/"),
		wake: make(chan struct{}, 1), done: make(chan struct{}),
		client: &http.Client{
			Timeout:       cfg.DeliveryTimeout,
			Transport:     &http.Transport{MaxIdleConnsPerHost: deliveriesAtOnce, IdleConnTimeout: time.Minute},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		keys:      map[string]*storedAnswer{},
		customers: newTable[customer](), methods: newTable[paymentMethod](), payments: newTable[paymentIntent](),
		setups: newTable[setupIntent](), charges: newTable[charge](), sessions: newTable[checkoutSession](),
		refunds: newTable[refund](), disputes: newTable[dispute](), balances: newTable[balanceTransaction](),
		events: newTable[event](), endpoints: newTable[webhookEndpoint](), actions: map[string]*action{},
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

// ServeHTTP answers API calls under /v1/, control calls under /_sandbox/, and the hosted pages.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// SetBaseURL says under which address the hosted pages can be reached, once that is known.
func (s *Server) SetBaseURL(base string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.baseURL = strings.TrimRight(base, "/")
}

// Run delivers webhooks and lets time pass (sessions expire, refunds settle) until ctx ends or Close is called, then
// waits for deliveries in hand, whose requests are cut off. Without Run the API works, and nothing is delivered.
// It is called once and always returns nil.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var deliveries sync.WaitGroup
	defer func() {
		cancel()
		deliveries.Wait()
		s.client.CloseIdleConnections()
	}()
	for {
		s.mu.Lock()
		s.tick()
		ready, wait := s.dueDeliveries()
		s.mu.Unlock()
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
		if ctx.Err() != nil || s.closed() {
			return nil
		}
	}
}

// Close ends Run and lets go of requests that an injected delay holds. It may be called more than once.
func (s *Server) Close() {
	s.close.Do(func() { close(s.done) })
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
