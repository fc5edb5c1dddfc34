package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/crashpoint"
	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

const (
	// atOnce is how many requests are carried out at once; more are refused as overloaded.
	atOnce = 256
	// finishTime bounds, once the service stops, how long requests in hand may still take.
	finishTime = 5 * time.Second
	// queueGroup is shared by every ingest, so each request reaches one of them.
	queueGroup = "paykit-api"
)

// Serve answers commands on <prefix>.api.<entity>.<verb> as a NATS service until ctx ends. Any number of processes may
// serve at once: they share the requests. When ctx ends no new requests are taken, those in hand store what they have
// to store and answer with what is there, and Serve returns; the connection must live until then.
func Serve(ctx context.Context, nc *nats.Conn, h *Handler) error {
	s := &service{nc: nc, h: h, logger: h.cfg.Logger, slots: make(chan struct{}, atOnce), counts: map[string]*counts{}}
	m, err := micro.AddService(nc, micro.Config{
		Name: "paykit-api", Version: h.cfg.Version, Description: "commands of the billing engine", QueueGroup: queueGroup,
		StatsHandler: s.stats,
	})
	if err != nil {
		return fmt.Errorf("start the command service: %w", err)
	}
	for _, verb := range Verbs() {
		name := strings.NewReplacer(".", "-", "_", "-").Replace(verb)
		s.counts[name] = &counts{}
	}
	for _, verb := range Verbs() {
		name := strings.NewReplacer(".", "-", "_", "-").Replace(verb)
		subject := h.log.Prefix() + ".api." + verb
		handler := micro.HandlerFunc(func(r micro.Request) { s.accept(ctx, verb, s.counts[name], r) })
		if err := m.AddEndpoint(name, handler, micro.WithEndpointSubject(subject)); err != nil {
			return errors.Join(fmt.Errorf("serve %s: %w", subject, err), m.Stop())
		}
	}
	// Once the server knows the subscriptions nobody is told "no responders" any more.
	if err := nc.Flush(); err != nil && ctx.Err() == nil {
		return errors.Join(fmt.Errorf("start the command service: %w", err), m.Stop())
	}
	h.serving.Store(true)
	<-ctx.Done()
	h.serving.Store(false)
	s.finish(context.WithoutCancel(ctx), m)
	return nil
}

type service struct {
	nc     *nats.Conn
	h      *Handler
	logger zerolog.Logger
	slots  chan struct{} // one for each request in hand
	inHand sync.WaitGroup
	counts map[string]*counts // by endpoint; not changed once requests come
}

// counts is what $SRV.STATS tells of an endpoint. The library's own figures end with the hand-over to a goroutine.
type counts struct {
	mu       sync.Mutex
	answered uint64        // guarded by mu
	refused  uint64        // guarded by mu
	busy     time.Duration // guarded by mu
}

func (c *counts) add(refused bool, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy += took
	if refused {
		c.refused++
	} else {
		c.answered++
	}
}

func (s *service) stats(e *micro.Endpoint) any {
	c, ok := s.counts[e.Name]
	if !ok {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return map[string]any{
		"answered": c.answered, "refused": c.refused, "busy_ms": c.busy.Milliseconds(), "in_hand": len(s.slots),
	}
}

// finish takes no more requests and waits for those in hand.
func (s *service) finish(ctx context.Context, m micro.Service) {
	ctx, cancel := context.WithTimeout(ctx, finishTime)
	defer cancel()
	if err := m.Stop(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		s.logger.Warn().Err(err).Msg("command service not stopped cleanly")
	}
	// What the server sent before it knew of the stop is here after the flush, and in a goroutine's hand after the
	// barrier.
	taken := make(chan struct{})
	if err := s.nc.FlushWithContext(ctx); err != nil {
		close(taken)
	} else if err := s.nc.Barrier(func() { close(taken) }); err != nil {
		close(taken)
	}
	go func() {
		select {
		case <-taken:
		case <-ctx.Done():
		}
		s.inHand.Wait()
		cancel()
	}()
	<-ctx.Done()
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		s.logger.Warn().Int("in_hand", len(s.slots)).Msg("command service stopped with requests in hand")
	}
}

// accept gives a request a goroutine of its own, if there is a slot left.
func (s *service) accept(ctx context.Context, verb string, c *counts, r micro.Request) {
	select {
	case s.slots <- struct{}{}:
	default:
		c.add(true, 0)
		s.refuse(r.Reply(), &events.Error{
			Code: events.CodeOverloaded, Message: "too many commands at once; send it again with the same idempotency key",
		})
		return
	}
	s.inHand.Go(func() {
		defer func() { <-s.slots }()
		start := time.Now()
		refused := s.handle(ctx, verb, r)
		c.add(refused, time.Since(start))
	})
}

// handle carries out one request. The answer does not go through r: the library reads r's outcome when the endpoint
// returns, which was long ago.
func (s *service) handle(ctx context.Context, verb string, r micro.Request) (refused bool) {
	defer func() {
		if p := recover(); p != nil { // or one command's bug would end the process
			s.logger.Error().Str("command_type", verb).Err(eventlog.Panicked(p)).Msg("command panicked")
			s.refuse(r.Reply(), AsError(errPanicked))
			refused = true
		}
	}()
	meta, refusal := metaOf(nats.Header(r.Headers()))
	if refusal != nil {
		s.refuse(r.Reply(), refusal)
		return true
	}
	if r.Reply() == "" {
		meta.Wait = 0 // nobody waits
	}
	// Storing goes on when the service stops, waiting does not.
	result, err := s.h.execute(context.WithoutCancel(ctx), verb, r.Data(), meta, ctx.Done())
	if err != nil {
		refusal := AsError(err)
		if _, final := refusalOf(err); !final {
			s.logger.Error().Err(err).Str("command_type", verb).Str("code", string(refusal.Code)).Msg("command failed")
		}
		s.refuse(r.Reply(), refusal)
		return true
	}
	s.respond(r.Reply(), &nats.Msg{
		Header: nats.Header{HeaderSequence: {strconv.FormatUint(result.Sequence, 10)}}, Data: result.Body,
	})
	crashpoint.Hit("commands.answered")
	return false
}

// refuse answers with an error, the way NATS services do.
func (s *service) refuse(reply string, refusal *events.Error) {
	body, err := json.Marshal(struct {
		Error *events.Error `json:"error"`
	}{refusal})
	if err != nil {
		s.logger.Error().Err(err).Msg("refusal not encoded")
	}
	s.respond(reply, &nats.Msg{
		Header: nats.Header{
			micro.ErrorCodeHeader: {strconv.Itoa(refusal.Code.Status())}, micro.ErrorHeader: {string(refusal.Code)},
		},
		Data: body,
	})
}

func (s *service) respond(reply string, msg *nats.Msg) {
	if !s.h.log.MayAnswer(reply) {
		return
	}
	msg.Subject = reply
	if err := s.nc.PublishMsg(msg); err != nil {
		// The caller sees a timeout, and repeats with the same key.
		s.logger.Warn().Err(err).Msg("answer not sent")
	}
}
