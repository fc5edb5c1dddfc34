package projections

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"go.etcd.io/bbolt"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/natsapi"
)

const (
	// sequenceWait is how long a query waits for the views to have Paykit-Min-Sequence. Plain NATS clients give up after
	// 5 s, and shall see our answer instead.
	sequenceWait = 4 * time.Second
	// finishTime is how long stopping waits for the queries in hand.
	finishTime = 3 * time.Second

	headerMinSequence = "Paykit-Min-Sequence"
)

// queries answers from one open file.
type queries struct {
	store  reader
	log    *eventlog.Log
	budget int  // bytes of a list's items
	past   bool // the views are of an earlier sequence

	walking sync.Mutex // one at a time walks all views
}

// query is a request's body, and where its answer may be built.
type query struct {
	body
	buffer []byte
}

// answer is a query's body and the sequence it is of: of the entity's last event, of a list the views' checkpoint.
type answer = natsapi.Answer

// snapshot answers a query for one entity by its id: its row, as it is.
func (q *queries) snapshot(r query, bucket, param string, missing events.Error) (answer, error) {
	id, err := r.required(param)
	if err != nil {
		return answer{}, err
	}
	var a answer
	err = q.store.view(func(tx *bbolt.Tx) error {
		r0, ok, err := readRow(tx.Bucket([]byte(bucket)), []byte(id))
		if err != nil {
			return err
		}
		if !ok {
			missing.Param = param
			return &missing
		}
		a = answer{Sequence: r0.sequence, Data: append(r.buffer, r0.snapshot...)}
		return nil
	})
	return a, err
}

// viewStatus answers view.status: the digest of the views, for "paykit verify". It walks all rows.
func (q *queries) viewStatus(ctx context.Context, _ query) (answer, error) {
	if !q.walking.TryLock() {
		return answer{}, &events.Error{Code: events.CodeOverloaded, Message: "the views are being walked already; try again"}
	}
	defer q.walking.Unlock()
	r, err := q.store.digest(ctx)
	if err != nil {
		return answer{}, err
	}
	data, err := json.Marshal(r)
	return answer{Sequence: r.Sequence, Data: data}, err
}

// endpoint is one query of the contract. quick ones read a few rows and ask nobody.
type endpoint struct {
	verb   string
	quick  bool
	fields []string
	answer func(context.Context, query) (answer, error)
}

func (q *queries) endpoints() []endpoint {
	return []endpoint{
		{"customer.get", false, []string{"customerId", "referenceId"}, q.customerGet},
		{"customer.list", false, []string{"limit", "cursor"}, q.customerList},
		{"payment_method.get", true, []string{"paymentMethodId"}, q.paymentMethodGet},
		{"payment_method.list", true, []string{"providerId", "customerId", "limit", "cursor"}, q.paymentMethodList},
		{"charge.get", true, []string{"chargeId"}, q.chargeGet},
		{"charge.list", false, []string{"customerId", "status", "limit", "cursor"}, q.chargeList},
		{"checkout.get", true, []string{"checkoutId"}, q.checkoutGet},
		{"setup.get", true, []string{"setupId"}, q.setupGet},
		{"event.list", false, []string{"customerId", "entityId", "limit", "cursor"}, q.eventList},
		{"view.status", false, nil, q.viewStatus},
	}
}

// service is the NATS side of the queries.
type service struct {
	log     *eventlog.Log
	logger  zerolog.Logger
	applied *progress
	damaged func(error) // told when a query found the file damaged
	ready   func()      // told when queries are answered
	past    *past
}

// listBudget is how large a list's items may get, so that the answer fits into one message.
func listBudget(maxPayload int64) int {
	const headers = 4 << 10
	return int(max(maxPayload-headers, headers))
}

// serve answers queries until ctx ends, then finishes those in hand.
func (s *service) serve(ctx context.Context, q *queries) error {
	c := natsapi.Config{
		Name: "paykit-query", Version: "1.0.0", Description: "queries of the views", Subject: s.log.Prefix() + ".query",
		WaitHeaders: []string{headerMinSequence, headerAt}, Overloaded: "too many queries at once; try again",
		MayAnswer: s.log.MayAnswer, Ready: s.ready, Finish: finishTime, Logger: s.logger,
	}
	for _, e := range q.endpoints() {
		c.Endpoints = append(c.Endpoints, natsapi.Endpoint{
			Verb: e.verb, Quick: e.quick,
			Handle: func(inHand context.Context, r natsapi.Request) (natsapi.Answer, *events.Error) {
				b, err := parseBody(r.Data, e.fields)
				var a answer
				if err == nil {
					a, err = s.answer(ctx, inHand, e, r, query{body: b, buffer: r.Buffer})
				}
				if err == nil {
					return a, nil
				}
				return answer{}, s.publicError(e, err)
			},
		})
	}
	return natsapi.Serve(ctx, s.log.Conn(), c)
}

// answer answers a query from the live views, or from those of the point that the request names. Waiting ends with ctx:
// it is in vain once the service stops.
func (s *service) answer(ctx, inHand context.Context, e endpoint, r natsapi.Request, q query) (answer, error) {
	if at := r.Header.Get(headerAt); at != "" {
		return s.answerAt(ctx, inHand, e.verb, at, q)
	}
	if err := s.wait(ctx, r); err != nil {
		return answer{}, err
	}
	return e.answer(inHand, q)
}

// wait returns when the views have the sequence that a request asks for.
func (s *service) wait(ctx context.Context, r natsapi.Request) error {
	v := r.Header.Get(headerMinSequence)
	if v == "" {
		return nil
	}
	sequence, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		return invalid(headerMinSequence, "must be a sequence, as in the header "+natsapi.HeaderSequence+" of an answer")
	}
	return s.applied.wait(ctx, sequence, sequenceWait)
}

// publicError is what the caller may know of an error; the rest is logged.
func (s *service) publicError(e endpoint, err error) *events.Error {
	if refusal, ok := errors.AsType[*events.Error](err); ok {
		return refusal
	}
	if errors.Is(err, errDamaged) {
		s.damaged(err)
	}
	s.logger.Error().Err(err).Str("query", e.verb).Msg("query failed")
	if eventlog.IsUnavailable(err) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errDamaged) {
		return &events.Error{Code: events.CodeTimeout, Message: "what the answer needs could not be read in time; try again"}
	}
	return &events.Error{Code: events.CodeInternal, Message: "the query failed; the projector's log says why"}
}
