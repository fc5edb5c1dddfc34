package sandbox

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/rs/zerolog"
	"github.com/stripe/stripe-go/v76/webhook"
)

const (
	deliveriesAtOnce  = 8           // to one endpoint
	firstRetry        = time.Second // then doubling
	maxRetryWait      = time.Hour
	maxDeliveryTries  = 20
	maxCopies         = 100
	defaultReorder    = 500 * time.Millisecond // the window of a reorder that names none
	maxResponseDrain  = 64 << 10
	maxDeliveryWindow = time.Hour
)

// delivery is one copy of one event on its way to one endpoint. Guarded by Server.mu.
type delivery struct {
	seq      int64     // its id, and the order in the queue
	event    string    // id
	endpoint string    // id
	due      time.Time // by the sandbox's clock
	tries    int
	counted  bool // pending_webhooks counts it: the first of its copies
	mixed    bool // it has been through a reorder
}

func (d *delivery) hidden() any {
	return &struct {
		Event    *string    `json:"event"`
		Endpoint *string    `json:"endpoint"`
		Due      *time.Time `json:"due"`
		Tries    *int       `json:"tries"`
		Counted  *bool      `json:"counted"`
	}{&d.event, &d.endpoint, &d.due, &d.tries, &d.counted}
}

func (d *delivery) id() string { return strconv.FormatInt(d.seq, 10) }

// deliveryBehavior is how deliveries go out, as posted to /_sandbox/webhooks.
type deliveryBehavior struct {
	Copies  int    `json:"copies"`  // of every delivery
	Delay   string `json:"delay"`   // before the first attempt
	Reorder bool   `json:"reorder"` // what gathers in the window goes out in another order, one at a time
	Window  string `json:"window"`  // how long deliveries gather before they go out
	Drop    bool   `json:"drop"`    // nothing goes out, now or later

	delay, window time.Duration
	opened        time.Time // when the present window began to gather
}

func (b *deliveryBehavior) complete() error {
	if b.Copies < 0 || b.Copies > maxCopies {
		return fmt.Errorf("copies is %d: it must be from 1 to %d, or left out", b.Copies, maxCopies)
	}
	b.Copies = max(1, b.Copies)
	b.Delay, b.Window = orDefault(b.Delay, "0s"), orDefault(b.Window, "0s")
	var err error
	if b.delay, err = time.ParseDuration(b.Delay); err != nil || b.delay < 0 {
		return fmt.Errorf("delay is %q: a duration like 2s", b.Delay)
	}
	if b.window, err = time.ParseDuration(b.Window); err != nil || b.window < 0 || b.window > maxDeliveryWindow {
		return fmt.Errorf("window is %q: a duration up to %s", b.Window, maxDeliveryWindow)
	}
	if b.Reorder && b.window == 0 {
		b.window = defaultReorder
	}
	return nil
}

// queueDeliveries plans the deliveries of a new event. Called with mu held.
func (s *Server) queueDeliveries(e *event) {
	at := s.now()
	if w := s.behavior.window; w > 0 {
		if s.behavior.opened.IsZero() || !at.Before(s.behavior.opened.Add(w)) {
			s.behavior.opened = at
		}
		at = s.behavior.opened.Add(w)
	}
	at = at.Add(s.behavior.delay)
	for _, ep := range s.endpoints.all {
		if ep.Status != endpointEnabled || !slices.ContainsFunc(ep.EnabledEvents, func(t string) bool { return typeMatches(t, e.Type) }) {
			continue
		}
		e.PendingWebhooks++
		if s.behavior.Drop {
			e.undelivered = true
			continue
		}
		for i := range max(1, s.behavior.Copies) {
			d := &delivery{seq: s.next(), event: e.ID, endpoint: ep.ID, due: at, counted: i == 0}
			s.deliveries.add(d.id(), d)
			ep.queue = append(ep.queue, d)
		}
	}
	s.signal()
}

// dueDeliveries takes what is due out of the queues, as far as endpoints have room, and says how long nothing else will
// be. Called with mu held.
func (s *Server) dueDeliveries() (ready []*delivery, wait time.Duration) {
	now := s.now()
	wait = s.untilTask()
	for _, ep := range s.endpoints.all {
		room := deliveriesAtOnce - ep.inFlight
		if s.behavior.Reorder {
			room = 1 - ep.inFlight
			s.shuffle(ep, now)
		}
		waiting := ep.queue[:0]
		for _, d := range ep.queue {
			switch {
			case d.due.After(now):
				wait = min(wait, d.due.Sub(now))
				waiting = append(waiting, d)
			case room > 0:
				room--
				ep.inFlight++
				ready = append(ready, d)
			default:
				waiting = append(waiting, d) // room comes with the end of a delivery, which wakes Run
			}
		}
		clear(ep.queue[len(waiting):])
		ep.queue = waiting
	}
	return ready, wait
}

// shuffle puts what has gathered in a closed window into another order: any but the one they came in. Called with mu held.
func (s *Server) shuffle(ep *webhookEndpoint, now time.Time) {
	var places []int // in the queue
	for i, d := range ep.queue {
		if !d.mixed && !d.due.After(now) {
			places = append(places, i)
		}
	}
	if len(places) < 2 {
		return
	}
	batch := make([]*delivery, len(places))
	for i, place := range places {
		batch[i] = ep.queue[place]
	}
	first := batch[0].event
	for i := len(batch) - 1; i > 0; i-- {
		j := s.below(i + 1)
		batch[i], batch[j] = batch[j], batch[i]
	}
	for i := 1; i < len(batch) && batch[0].event == first; i++ {
		batch[0], batch[i] = batch[i], batch[0]
	}
	for i, place := range places {
		batch[i].mixed = true
		ep.queue[place] = batch[i]
	}
}

// deliver makes one attempt. It runs on its own goroutine, without mu.
func (s *Server) deliver(ctx context.Context, d *delivery) {
	s.enter()
	e, ep := s.events.peek(d.event), s.endpoints.peek(d.endpoint)
	if ep == nil { // deleted just now
		s.giveUp(d)
		s.leave()
		return
	}
	body, url, secret, id, eventType := encode(e), ep.URL, ep.secret, e.ID, e.Type
	s.leave()
	started := time.Now()
	status, err := s.post(ctx, url, secret, body)
	accepted := status/100 == 2
	level := zerolog.DebugLevel
	if !accepted {
		level = zerolog.WarnLevel
	}
	s.cfg.Logger.WithLevel(level).Err(err).Str("event_id", id).Str("event_type", eventType).Int("status", status).Int64("dur_ms", time.Since(started).Milliseconds()).Msg("webhook sent")
	if ctx.Err() != nil && !accepted {
		return // cut off by the end of Run, not refused: with a state file the next start delivers it
	}
	s.settleDelivery(d, accepted)
}

// post sends a signed body. The signature's time is the real one, whatever the sandbox's clock says, because the receiver
// compares it with its own clock; each retry is signed again.
func (s *Server) post(ctx context.Context, url, secret string, body []byte) (status int, err error) {
	signed := webhook.GenerateTestSignedPayload(&webhook.UnsignedPayload{Payload: body, Secret: secret, Timestamp: time.Now()})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, fmt.Errorf("webhook request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	req.Header.Set("Accept", "*/*; q=0.5, application/xml")
	req.Header.Set("User-Agent", "Stripe/1.0 (+https://stripe.com/docs/webhooks)")
	req.Header.Set("Stripe-Signature", signed.Header)
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, fmt.Errorf("webhook: %w", err)
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxResponseDrain)) // only so that the connection can be used again
	return resp.StatusCode, resp.Body.Close()
}

// settleDelivery counts an accepted delivery, or plans the next attempt. A crash before it is saved lets the delivery
// come again, as Stripe's do when an answer is lost.
func (s *Server) settleDelivery(d *delivery, accepted bool) {
	s.enter()
	defer s.leave()
	ep := s.endpoints.peek(d.endpoint)
	if ep != nil {
		ep.inFlight--
	}
	d.tries++
	switch {
	case accepted:
		s.deliveries.remove(d.id())
		if d.counted {
			s.events.get(d.event).PendingWebhooks--
		}
	case d.tries >= maxDeliveryTries || ep == nil || ep.Status != endpointEnabled:
		s.giveUp(d)
	default:
		s.deliveries.get(d.id()) // noted: it has changed
		d.due = s.now().Add(retryWait(d.tries))
		ep.queue = append(ep.queue, d)
	}
	s.signal()
}

// giveUp ends a delivery that was never accepted. Called with mu held.
func (s *Server) giveUp(d *delivery) {
	s.deliveries.remove(d.id())
	s.events.get(d.event).undelivered = true
}

// retryWait is how long after its n-th failed attempt a delivery is tried again: 1 s, 2 s, 4 s … 1 h.
func retryWait(n int) time.Duration {
	return min(maxRetryWait, firstRetry<<min(n-1, 20))
}

// below returns a number from 0 to n-1. Called with mu held.
func (s *Server) below(n int) int {
	b := make([]byte, 4)
	if _, err := io.ReadFull(s.cfg.Entropy, b); err != nil {
		panic("sandbox: entropy: " + err.Error())
	}
	return int(binary.LittleEndian.Uint32(b)) % n
}
