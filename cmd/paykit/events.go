package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/oklog/ulid/v2"

	"github.com/paykit-go/paykit"
	"github.com/paykit-go/paykit/internal/daemon"
	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

type eventsCmd struct {
	Tail eventsTail `cmd:"" help:"Follow events as they are stored. Ctrl-C ends it."`
	List eventsList `cmd:"" help:"List history, oldest first."`
	Show eventsShow `cmd:"" help:"Show one event, or all events of one entity, as stored."`
}

type eventFilter struct {
	Type     string `help:"Only these: a type or a pattern, as charge.succeeded or charge.*"`
	Customer string `help:"Only this customer's: cust_… or your own id."`
}

func (f eventFilter) takes(e *events.Event, customerID string) bool {
	if customerID != "" && e.CustomerID() != customerID {
		return false
	}
	if f.Type == "" {
		return true
	}
	ok, err := path.Match(f.Type, string(e.Type))
	return ok && err == nil
}

// stored is an event and where it stands in the log.
type stored struct {
	event *events.Event
	raw   []byte
	seq   uint64
}

type eventsTail struct {
	eventFilter
	FromBeginning bool          `help:"Begin with the first event there ever was."`
	Limit         int           `short:"n" help:"End after so many events."`
	Timeout       time.Duration `help:"End after this long."`
}

func (eventsTail) Help() string {
	return `  paykit events tail
  paykit events tail --type 'charge.*' --customer user_123
  paykit events tail --from-beginning -o json | jq .type`
}

func (c eventsTail) Run(a *app) error {
	pk, err := a.client()
	if err != nil {
		return err
	}
	defer pk.Close()
	customerID := ""
	if c.Customer != "" {
		if customerID, err = a.customerID(pk, c.Customer); err != nil {
			return err
		}
	}
	ctx := a.ctx
	if c.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.Timeout)
		defer cancel()
	}
	policy := jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverNewPolicy}
	if c.FromBeginning {
		policy.DeliverPolicy = jetstream.DeliverAllPolicy
	}
	if !a.json && !c.FromBeginning {
		fmt.Fprintln(a.err, "waiting for events; Ctrl-C ends")
	}
	n := 0
	err = a.follow(ctx, policy, func(s stored, _ uint64) (bool, error) {
		if !c.takes(s.event, customerID) {
			return true, nil
		}
		n++
		if err := a.line(s); err != nil {
			return false, err
		}
		return c.Limit == 0 || n < c.Limit, nil
	})
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// line prints one event: a line for people, the stored JSON for programs.
func (a *app) line(s stored) error {
	if a.json {
		_, err := fmt.Fprintf(a.out, "%s\n", s.raw)
		return err //nolint:wrapcheck // writing to standard output
	}
	_, err := fmt.Fprintf(a.out, "%s  %-32s %-32s %s\n", s.event.Time.Format("15:04:05.000"), s.event.Type, s.event.Subject, detail(s.event))
	return err //nolint:wrapcheck // writing to standard output
}

// detail is what matters most about an event, in a few words.
func detail(e *events.Event) string {
	switch d := e.Data; {
	case d.Charge != nil:
		s := money(d.Charge.Amount, d.Charge.Currency)
		if d.Refund != nil {
			s = "refund " + money(d.Refund.Amount, d.Charge.Currency)
		}
		if d.Charge.Failure != nil {
			s += "  " + d.Charge.Failure.Code
		}
		return s
	case d.Checkout != nil:
		return money(d.Checkout.Amount, d.Checkout.Currency)
	case d.PaymentMethod != nil:
		return d.PaymentMethod.Brand + " …" + d.PaymentMethod.Last4
	case d.ProviderAccount != nil:
		return d.ProviderAccount.ProviderCustomerID
	case d.Command != nil:
		return d.Command.Type + ": " + string(d.Command.Error.Code)
	case e.Entity() == events.EntityCustomer:
		return d.Customer.ReferenceID
	}
	return ""
}

// follow reads the log in order until do says stop, or ctx ends. pending is how many events are still to come.
func (a *app) follow(ctx context.Context, policy jetstream.OrderedConsumerConfig, do func(s stored, pending uint64) (bool, error)) error {
	nc, err := a.nats.Connect("cli events", a.logger(), silentDisconnect())
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("jetstream: %w", err)
	}
	consumer, err := js.OrderedConsumer(ctx, strings.ToUpper(a.nats.Prefix)+"_LOG", policy)
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	messages, err := consumer.Messages()
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	stop := context.AfterFunc(ctx, messages.Stop)
	defer stop()
	defer messages.Stop()
	for {
		m, err := messages.Next()
		if ctx.Err() != nil {
			return ctx.Err() //nolint:wrapcheck // the caller's own
		}
		if err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
		e, err := events.Decode(m.Data())
		if errors.Is(err, events.ErrUnknownType) || errors.Is(err, events.ErrUnknownSchema) { // of a newer version
			continue
		}
		if err != nil {
			return fmt.Errorf("event at sequence %d: %w", meta.Sequence.Stream, err)
		}
		if more, err := do(stored{e, m.Data(), meta.Sequence.Stream}, meta.NumPending); err != nil || !more {
			return err
		}
	}
}

type eventsList struct {
	page
	past
	Customer string `help:"Of this customer: cust_… or your own id." xor:"whose"`
	Entity   string `help:"Of this entity: any id of ours." xor:"whose"`
}

func (c eventsList) Run(a *app) error {
	pk, err := a.client()
	if err != nil {
		return err
	}
	defer pk.Close()
	in := paykit.EventList{EntityID: c.Entity, Page: c.page.page()}
	if c.Customer != "" {
		if in.CustomerID, err = a.customerID(pk, c.Customer); err != nil {
			return err
		}
	}
	if in.CustomerID == "" && in.EntityID == "" {
		return c.newest(a)
	}
	list, err := pk.Event.List(a.ctx, in, c.options()...)
	if err != nil {
		return err
	}
	defer a.more(list.NextCursor)
	return a.eventTable(list, list.Items)
}

// newestAt lists the log's last events, of everyone, as they were then.
func (c eventsList) newestAt(a *app) error {
	log, done, err := a.openLog()
	if err != nil {
		return err
	}
	defer done()
	last, err := c.At.at(a.ctx, log, "--at")
	if err != nil {
		return err
	}
	first := uint64(1)
	if n := uint64(max(c.Limit, 1)); last > n {
		first = last - n + 1
	}
	list := paykit.List[paykit.Event]{Items: []paykit.Event{}}
	err = log.Range(a.ctx, eventlog.HistoryFilter{}, first, last, func(s eventlog.Stored) error {
		e, err := s.Entry()
		if errors.Is(err, events.ErrUnknownType) || errors.Is(err, events.ErrUnknownSchema) { // of a newer version
			return nil
		}
		if err == nil {
			list.Items = append(list.Items, *e.Event)
		}
		return err
	})
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	return a.eventTable(list, list.Items)
}

// newest lists the log's last events, of everyone.
func (c eventsList) newest(a *app) error {
	if c.At.set {
		return c.newestAt(a)
	}
	first, err := a.startAt(c.Limit)
	if err != nil || first == 0 {
		return errors.Join(err, a.eventTable(paykit.List[paykit.Event]{Items: []paykit.Event{}}, nil))
	}
	list := paykit.List[paykit.Event]{}
	ctx, cancel := context.WithTimeout(a.ctx, 10*time.Second)
	defer cancel()
	err = a.follow(ctx, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: first},
		func(s stored, pending uint64) (bool, error) {
			list.Items = append(list.Items, *s.event)
			return pending > 0 && len(list.Items) < c.Limit, nil
		})
	if err != nil {
		return err
	}
	return a.eventTable(list, list.Items)
}

// startAt is the sequence n events before the end; 0 for an empty log.
func (a *app) startAt(n int) (uint64, error) {
	nc, err := a.nats.Connect("cli events", a.logger(), silentDisconnect())
	if err != nil {
		return 0, err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return 0, fmt.Errorf("jetstream: %w", err)
	}
	stream, err := js.Stream(a.ctx, strings.ToUpper(a.nats.Prefix)+"_LOG")
	if err != nil {
		return 0, fmt.Errorf("read the log: %w", err)
	}
	last := stream.CachedInfo().State.LastSeq
	if last == 0 {
		return 0, nil
	}
	if span := uint64(max(n, 1)); last >= span {
		return last - span + 1, nil
	}
	return 1, nil
}

func (a *app) eventTable(v any, list []paykit.Event) error {
	var rows [][]string
	for _, e := range list {
		rows = append(rows, []string{when(e.Time), string(e.Type), e.Subject, detail(&e), e.ID})
	}
	return a.show(v, []string{"TIME", "EVENT", "ENTITY", "", "EVENT ID"}, rows...)
}

type eventsShow struct {
	past
	ID string `arg:"" help:"An event's id, or an entity's: chg_…, chk_…, …"`
}

// errNoEvent says that the log has no such event.
var errNoEvent = errors.New("there is no such event")

func (eventsShow) Help() string {
	return `  paykit events show chg_…     the charge's whole history
  paykit events show 01JD…     one event`
}

func (c eventsShow) Run(a *app) error {
	if _, ok := events.EntityOf(c.ID); ok {
		pk, err := a.client()
		if err != nil {
			return err
		}
		defer pk.Close()
		for p := (paykit.Page{Limit: 100}); ; {
			list, err := pk.Event.List(a.ctx, paykit.EventList{EntityID: c.ID, Page: p}, c.options()...)
			if err != nil {
				return err
			}
			for _, e := range list.Items {
				if err := a.printJSON(e); err != nil {
					return err
				}
			}
			if p.Cursor = list.NextCursor; p.Cursor == "" {
				return nil
			}
		}
	}
	if c.At.set {
		return &daemon.UsageError{Err: fmt.Errorf("--at: %w: it is for an entity's history, not for one event", errNoEvent)}
	}
	id, err := ulid.ParseStrict(c.ID)
	if err != nil {
		return fmt.Errorf("%w: %s is neither an event's id nor an entity's", errNoEvent, c.ID)
	}
	return c.find(a, id)
}

// find looks where the event's id says that it was decided: it was stored then or a little later.
func (c eventsShow) find(a *app, id ulid.ULID) error {
	from := ulid.Time(id.Time()).Add(-time.Second)
	ctx, cancel := context.WithTimeout(a.ctx, 10*time.Second)
	defer cancel()
	found := false
	err := a.follow(ctx, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &from},
		func(s stored, pending uint64) (bool, error) {
			if s.event.ID != c.ID {
				return pending > 0, nil
			}
			found = true
			return false, a.printJSON(json.RawMessage(s.raw))
		})
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if !found {
		return fmt.Errorf("%w: %s", errNoEvent, c.ID)
	}
	return nil
}
