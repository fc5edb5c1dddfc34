package projections

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/rs/zerolog"
	"go.etcd.io/bbolt"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

const (
	// atOnce is how many queries are answered at once; more are refused as overloaded.
	atOnce = 256
	// sequenceWait is how long a query waits for the views to have Paykit-Min-Sequence. Plain NATS clients give up after
	// 5 s, and shall see our answer instead.
	sequenceWait = 4 * time.Second
	// finishTime is how long stopping waits for the queries in hand.
	finishTime = 3 * time.Second

	headerSequence    = "Paykit-Sequence"
	headerMinSequence = "Paykit-Min-Sequence"
)

// queries answers from one open file.
type queries struct {
	store  *store
	log    *eventlog.Log
	budget int // bytes of a list's items
}

// answer is a query's body and the sequence it is of: of the entity's last event, of a list the views' checkpoint.
type answer struct {
	sequence uint64
	data     []byte
}

// snapshot answers a query for one entity by its id: its row, as it is.
func (q *queries) snapshot(b body, bucket, param string, missing events.Error) (answer, error) {
	id, err := b.required(param)
	if err != nil {
		return answer{}, err
	}
	var a answer
	err = q.store.view(func(tx *bbolt.Tx) error {
		r, ok, err := readRow(tx.Bucket([]byte(bucket)), []byte(id))
		if err != nil {
			return err
		}
		if !ok {
			missing.Param = param
			return &missing
		}
		a = answer{sequence: r.sequence, data: append([]byte(nil), r.snapshot...)}
		return nil
	})
	return a, err
}

// viewStatus answers view.status: the digest of the views, for "paykit verify". It walks all rows.
func (q *queries) viewStatus(ctx context.Context, _ body) (answer, error) {
	r, err := q.store.digest(ctx)
	if err != nil {
		return answer{}, err
	}
	data, err := json.Marshal(r)
	return answer{sequence: r.Sequence, data: data}, err
}

// endpoint is one query of the contract.
type endpoint struct {
	entity, verb string
	fields       []string
	answer       func(context.Context, body) (answer, error)
}

func (q *queries) endpoints() []endpoint {
	return []endpoint{
		{"customer", "get", []string{"customerId", "referenceId"}, q.customerGet},
		{"customer", "list", []string{"limit", "cursor"}, q.customerList},
		{"payment_method", "get", []string{"paymentMethodId"}, q.paymentMethodGet},
		{"payment_method", "list", []string{"providerId", "customerId", "limit", "cursor"}, q.paymentMethodList},
		{"charge", "get", []string{"chargeId"}, q.chargeGet},
		{"charge", "list", []string{"customerId", "status", "limit", "cursor"}, q.chargeList},
		{"checkout", "get", []string{"checkoutId"}, q.checkoutGet},
		{"setup", "get", []string{"setupId"}, q.setupGet},
		{"event", "list", []string{"customerId", "entityId", "limit", "cursor"}, q.eventList},
		{"view", "status", nil, q.viewStatus},
	}
}

// service is the NATS side of the queries.
type service struct {
	nc      *nats.Conn
	log     *eventlog.Log
	logger  zerolog.Logger
	applied *progress
	damaged func(error) // told when a query found the file damaged
	ready   func()      // told when queries are answered
	slots   chan struct{}
	idle    chan request // goroutines without a query wait here
}

// listBudget is how large a list's items may get, so that the answer fits into one message.
func listBudget(maxPayload int64) int {
	const headers = 4 << 10
	return int(max(maxPayload-headers, headers))
}

// serve answers queries until ctx ends, then finishes those in hand.
func (s *service) serve(ctx context.Context, q *queries, prefix string) error {
	m, err := micro.AddService(s.nc, micro.Config{
		Name: "paykit-query", Version: "1.0.0", Description: "queries of the views", QueueGroup: "paykit-query",
	})
	if err != nil {
		return fmt.Errorf("start the query service: %w", err)
	}
	for _, e := range q.endpoints() {
		name := strings.ReplaceAll(e.entity, "_", "-") + "-" + strings.ReplaceAll(e.verb, "_", "-")
		subject := prefix + ".query." + e.entity + "." + e.verb
		err := m.AddEndpoint(name, micro.HandlerFunc(func(r micro.Request) { s.accept(ctx, request{e, r}) }), micro.WithEndpointSubject(subject))
		if err != nil {
			return errors.Join(fmt.Errorf("serve %s: %w", subject, err), m.Stop())
		}
	}
	if err := s.nc.Flush(); err != nil { // the server knows the subscriptions: from here on nobody is told "no responders"
		return errors.Join(fmt.Errorf("start the query service: %w", err), m.Stop())
	}
	s.ready()
	<-ctx.Done()
	err = m.Stop()
	if err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		s.logger.Warn().Err(err).Msg("query service not stopped cleanly")
	}
	s.finish()
	return nil
}

// finish waits for the queries in hand by taking all slots; what arrives now is refused as overloaded.
func (s *service) finish() {
	late := time.NewTimer(finishTime)
	defer late.Stop()
	for range cap(s.slots) {
		select {
		case s.slots <- struct{}{}:
		case <-late.C:
			return
		}
	}
}

// request is a query in hand.
type request struct {
	endpoint
	micro.Request
}

// accept gives a request a goroutine of its own, if there is a slot left.
func (s *service) accept(ctx context.Context, r request) {
	select {
	case s.slots <- struct{}{}:
	default:
		s.refuse(r, &events.Error{Code: events.CodeOverloaded, Message: "too many queries at once; try again"})
		return
	}
	select {
	case s.idle <- r:
	default:
		go s.work(ctx, r)
	}
}

// work answers one request after the other until ctx ends. Goroutines are used again because their stacks have grown:
// growing a new one costs as much as answering. There are never many more of them than slots, since one is made only
// when none waits.
func (s *service) work(ctx context.Context, r request) {
	inHand := context.WithoutCancel(ctx) // queries in hand are finished; each of their reads has an end of its own
	for {
		s.handle(inHand, r)
		<-s.slots
		select {
		case r = <-s.idle:
		case <-ctx.Done():
			return
		}
	}
}

func (s *service) handle(ctx context.Context, r request) {
	defer func() {
		if p := recover(); p != nil { // or one query's bug would end the process
			s.logger.Error().Interface("panic", p).Str("query", r.entity+"."+r.verb).Msg("query panicked")
			s.refuse(r, &events.Error{Code: events.CodeInternal, Message: "the query failed; the projector's log says why"})
		}
	}()
	a, err := s.answer(ctx, r)
	if err != nil {
		s.refuse(r, s.publicError(r.endpoint, err))
		return
	}
	s.respond(r, nats.Header{headerSequence: {strconv.FormatUint(a.sequence, 10)}}, a.data)
}

func (s *service) answer(ctx context.Context, r request) (answer, error) {
	b, err := parseBody(r.Data(), r.fields)
	if err != nil {
		return answer{}, err
	}
	if v := r.Headers().Get(headerMinSequence); v != "" {
		sequence, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			return answer{}, invalid(headerMinSequence, "must be a sequence, as in the header "+headerSequence+" of an answer")
		}
		if err := s.applied.wait(ctx, sequence, sequenceWait); err != nil {
			return answer{}, err
		}
	}
	return r.answer(ctx, b)
}

// publicError is what the caller may know of an error; the rest is logged.
func (s *service) publicError(e endpoint, err error) *events.Error {
	if refusal, ok := errors.AsType[*events.Error](err); ok {
		return refusal
	}
	if errors.Is(err, errDamaged) {
		s.damaged(err)
	}
	s.logger.Error().Err(err).Str("query", e.entity+"."+e.verb).Msg("query failed")
	if eventlog.IsUnavailable(err) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errDamaged) {
		return &events.Error{Code: events.CodeTimeout, Message: "what the answer needs could not be read in time; try again"}
	}
	return &events.Error{Code: events.CodeInternal, Message: "the query failed; the projector's log says why"}
}

func (s *service) refuse(r request, e *events.Error) {
	data, err := json.Marshal(struct {
		Error *events.Error `json:"error"`
	}{e})
	if err != nil {
		data = nil // of three strings: can't happen
	}
	s.respond(r, nats.Header{
		micro.ErrorCodeHeader: {strconv.Itoa(e.Code.Status())},
		micro.ErrorHeader:     {string(e.Code)},
	}, data)
}

// respond answers by hand: a micro.Request may be answered from the handler's own goroutine only.
func (s *service) respond(r request, h nats.Header, data []byte) {
	if !s.log.MayAnswer(r.Reply()) {
		return
	}
	err := s.nc.PublishMsg(&nats.Msg{Subject: r.Reply(), Header: h, Data: data})
	if err != nil {
		s.logger.Warn().Err(err).Msg("query not answered")
	}
}
