// Package natsapi takes in requests of the public contract over NATS and answers them: a NATS service (it answers
// $SRV.PING, INFO and STATS) whose processes share the requests, at most 256 in hand, more refused as overloaded;
// refusals in the shape that NATS services give them; an end that waits for what is in hand.
//
// It knows no command and no query: those are its callers' handlers.
package natsapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/events"
)

const (
	// AtOnce is how many requests one process has in hand; more are refused as overloaded.
	AtOnce = 256

	// HeaderSequence is the header of an answer that says what it is of.
	HeaderSequence = "Paykit-Sequence"
)

// maxBuffer is the size, in bytes, up to which a buffer is kept for the next answer.
const maxBuffer = 64 << 10

// Request is a request in hand.
type Request struct {
	Header nats.Header
	Data   []byte
	Waits  bool // somebody waits for the answer

	// Buffer is empty and has room: an answer may be built in it.
	Buffer []byte
}

// Answer is what a request is answered with. Data belongs to the service from then on.
type Answer struct {
	Sequence uint64
	Data     []byte
}

// Endpoint is one subject of a service.
type Endpoint struct {
	Verb string // "payment_method.list": what stands behind the service's subject

	// Quick says that Handle neither waits nor asks anybody, unless the request has one of the service's WaitHeaders. Such requests
	// share a few goroutines, which costs half of what one for each does; every other request has its own.
	Quick bool

	// Handle answers a request, or refuses it. Its context does not end when the service stops. Many calls run at once. A
	// panic is logged and refused as "internal".
	Handle func(ctx context.Context, r Request) (Answer, *events.Error)
}

// Config is a service.
type Config struct {
	Name        string // "paykit-query", which is its queue group too: processes of one name share the requests
	Version     string
	Description string
	Subject     string // "paykit.query": what stands before the verbs
	Endpoints   []Endpoint
	WaitHeaders []string // with one of these even a quick endpoint's Handle may wait
	Overloaded  string   // what a refused caller is told

	MayAnswer func(reply string) bool // answers go to no other subject
	Ready     func()                  // told when requests are taken in; may be nil
	Finish    time.Duration           // how long, at the end, requests in hand may take
	Logger    zerolog.Logger
}

// Serve answers requests until ctx ends; then it takes no more, waits for those in hand and returns nil. The connection
// must live until then.
func Serve(ctx context.Context, nc *nats.Conn, c Config) error {
	s := &service{
		Config: c, nc: nc, quick: make(chan request, AtOnce), over: make(chan struct{}), endpoints: map[string]*endpoint{},
	}
	for _, e := range c.Endpoints {
		s.endpoints[name(e.Verb)] = &endpoint{Endpoint: e}
	}
	m, err := micro.AddService(nc, micro.Config{
		Name: c.Name, Version: c.Version, Description: c.Description, QueueGroup: c.Name, StatsHandler: s.stats,
	})
	if err != nil {
		return fmt.Errorf("start %s: %w", c.Name, err)
	}
	work := context.WithoutCancel(ctx)
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() { s.workOff(work) })
	}
	defer workers.Wait()
	defer close(s.over)
	for _, e := range c.Endpoints {
		one, subject := s.endpoints[name(e.Verb)], c.Subject+"."+e.Verb
		err := m.AddEndpoint(name(e.Verb), micro.HandlerFunc(func(r micro.Request) { s.accept(work, request{one, r}) }), micro.WithEndpointSubject(subject))
		if err != nil {
			return errors.Join(fmt.Errorf("serve %s: %w", subject, err), m.Stop())
		}
	}
	// Once the server knows the subscriptions nobody is told "no responders" any more.
	if err := nc.Flush(); err != nil && ctx.Err() == nil {
		return errors.Join(fmt.Errorf("start %s: %w", c.Name, err), m.Stop())
	}
	if c.Ready != nil {
		c.Ready()
	}
	<-ctx.Done()
	s.finish(work, m)
	return nil
}

// name is what a NATS service calls an endpoint, which may hold no dot.
func name(verb string) string { return strings.NewReplacer(".", "-", "_", "-").Replace(verb) }

type service struct {
	Config

	nc        *nats.Conn
	endpoints map[string]*endpoint // by name; not changed once requests come
	quick     chan request         // has room for all that are in hand
	over      chan struct{}        // closed when nothing is in hand any more
	taken     atomic.Int64         // how many are in hand
	inHand    sync.WaitGroup
}

// endpoint counts what $SRV.STATS tells. The library's own figures end with the hand-over to another goroutine.
type endpoint struct {
	Endpoint

	answered, refused, busy atomic.Int64 // busy in nanoseconds
}

func (s *service) stats(e *micro.Endpoint) any {
	one, ok := s.endpoints[e.Name]
	if !ok {
		return nil
	}
	return map[string]any{
		"answered": one.answered.Load(), "refused": one.refused.Load(),
		"busy_ms": time.Duration(one.busy.Load()).Milliseconds(), "in_hand": s.taken.Load(),
	}
}

// request is a request in hand and where it belongs.
type request struct {
	*endpoint
	micro.Request
}

// accept takes a request in hand, if there is room.
func (s *service) accept(ctx context.Context, r request) {
	if s.taken.Add(1) > AtOnce {
		s.taken.Add(-1)
		r.refused.Add(1)
		s.refuse(r.Reply(), &events.Error{Code: events.CodeOverloaded, Message: s.Overloaded})
		return
	}
	s.inHand.Add(1)
	waits := slices.ContainsFunc(s.WaitHeaders, func(name string) bool { return r.Headers().Get(name) != "" })
	if r.Quick && !waits {
		s.quick <- r // never blocks
		return
	}
	go s.handle(ctx, r, nil)
}

// workOff works on quick requests, one after the other.
func (s *service) workOff(ctx context.Context) {
	var buffer []byte
	for {
		select {
		case r := <-s.quick:
			buffer = s.handle(ctx, r, buffer)
		case <-s.over:
			return
		}
	}
}

// handle carries out one request. The answer does not go through the library's request, which reads its outcome when
// the endpoint's function returns: that was long ago. It answers what can be used as a buffer next.
func (s *service) handle(ctx context.Context, r request, buffer []byte) []byte {
	began := time.Now()
	a, refusal := s.call(ctx, r, buffer)
	if refusal != nil {
		r.refused.Add(1)
		s.refuse(r.Reply(), refusal)
	} else {
		r.answered.Add(1)
		s.respond(r.Reply(), nats.Header{HeaderSequence: {strconv.FormatUint(a.Sequence, 10)}}, a.Data)
	}
	r.busy.Add(int64(time.Since(began)))
	s.taken.Add(-1)
	s.inHand.Done()
	if a.Data == nil || cap(a.Data) > maxBuffer {
		return buffer
	}
	return a.Data[:0]
}

// call turns a panic into a refusal, or one request's bug would end the process.
func (s *service) call(ctx context.Context, r request, buffer []byte) (a Answer, refusal *events.Error) {
	defer func() {
		if p := recover(); p != nil {
			s.Logger.Error().Str("verb", r.Verb).Str("panic", fmt.Sprintf("%T", p)).Bytes("stack", debug.Stack()).Msg("request panicked")
			refusal = &events.Error{Code: events.CodeInternal, Message: "the request could not be carried out; the log of " + s.Name + " says why"}
		}
	}()
	return r.Handle(ctx, Request{Header: nats.Header(r.Headers()), Data: r.Data(), Waits: r.Reply() != "", Buffer: buffer})
}

// refuse answers with an error, the way NATS services do.
func (s *service) refuse(reply string, refusal *events.Error) {
	data, err := json.Marshal(struct {
		Error *events.Error `json:"error"`
	}{refusal})
	if err != nil {
		s.Logger.Error().Err(err).Msg("refusal not encoded") // of three strings: can't happen
	}
	s.respond(reply, nats.Header{
		micro.ErrorCodeHeader: {strconv.Itoa(refusal.Code.Status())}, micro.ErrorHeader: {string(refusal.Code)},
	}, data)
}

func (s *service) respond(reply string, h nats.Header, data []byte) {
	if !s.MayAnswer(reply) {
		return // nobody waits, or the answer would go where its caller may not write
	}
	if err := s.nc.PublishMsg(&nats.Msg{Subject: reply, Header: h, Data: data}); err != nil {
		s.Logger.Warn().Err(err).Msg("answer not sent") // the caller sees a timeout
	}
}

// finish takes no more requests and waits for those in hand.
func (s *service) finish(ctx context.Context, m micro.Service) {
	ctx, cancel := context.WithTimeout(ctx, s.Finish)
	defer cancel()
	if err := m.Stop(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		s.Logger.Warn().Err(err).Str("service", s.Name).Msg("service not stopped cleanly")
	}
	// What the server sent before it knew of the stop is here after the flush, and in hand after the barrier.
	arrived := make(chan struct{})
	if s.nc.FlushWithContext(ctx) != nil || s.nc.Barrier(func() { close(arrived) }) != nil {
		close(arrived)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-arrived:
		case <-ctx.Done():
		}
		s.inHand.Wait()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.Logger.Warn().Str("service", s.Name).Int64("in_hand", s.taken.Load()).Msg("service stopped with requests in hand")
	}
}
