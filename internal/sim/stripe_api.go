package sim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	engine "github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/provider"
)

// fate is what becomes of one call on its way.
type fate struct {
	refused *provider.Error // it is not carried out, and this is the answer
	broken  *provider.Error // it is carried out, and this is the answer instead of its own
	kept    bool            // the answer of refused or broken is what the key keeps
	late    time.Duration   // it is carried out so much later, when nobody waits for it any more
}

// Net is what calls go through. nil lets everything through at once.
type Net interface {
	// Out is asked before a call is carried out, Back before its answer is given: both take time.
	Out(ctx context.Context, operation string, write bool) (fate, error)
	Back(ctx context.Context) error
	// Later carries something out after a while.
	Later(d time.Duration, do func())
}

// API is one process's adapter for the model.
type API struct {
	s   *Stripe
	net Net
}

// NewAPI makes an adapter.
func NewAPI(s *Stripe, net Net) *API { return &API{s: s, net: net} }

var _ provider.API = (*API)(nil)

// call makes a call. params is its parameters; a read has no key. replayed says that the answer is an earlier call's.
func call[T any](ctx context.Context, a *API, operation, key, params string, do func() (T, *provider.Error)) (answer T, replayed bool, err error) {
	var f fate
	if a.net != nil {
		if f, err = a.net.Out(ctx, operation, key != ""); err != nil {
			return answer, false, err
		}
	}
	var failed *provider.Error
	switch {
	case f.late > 0:
		a.net.Later(f.late, func() {
			a.s.late = true
			_, _, _ = run(a.s, operation, key, params, f, do) // nobody waits for the answer
			a.s.late = false
		})
		if one := a.s.keys[key]; key != "" && (one == nil || a.s.now().Sub(one.at) > keyLife) {
			a.s.keys[key] = &stored{params: operation + params, at: a.s.now()}
		}
		failed = f.broken
	default:
		answer, replayed, failed = run(a.s, operation, key, params, f, do)
	}
	if a.net != nil {
		if err := a.net.Back(ctx); err != nil {
			return answer, false, err
		}
	}
	if failed == nil {
		return answer, replayed, nil
	}
	return answer, replayed, forRead(failed, key)
}

// forRead makes of an error what it is of a read, which has done nothing.
func forRead(e *provider.Error, key string) error {
	again := *e
	if key == "" && again.Class == provider.InDoubt {
		again.Class = provider.Transient
	}
	return &again
}

// run carries a call out under Stripe's rules for keys.
func run[T any](s *Stripe, operation, key, params string, f fate, do func() (T, *provider.Error)) (answer T, replayed bool, failed *provider.Error) {
	var keeps *stored
	if key != "" && operation != "customers.delete" { // a DELETE has no use for a key
		one := s.keys[key]
		if one != nil && s.now().Sub(one.at) > keyLife {
			one = nil
		}
		if one != nil && f.refused != nil && !f.kept {
			return answer, false, f.refused
		}
		if one != nil && (one.ended || f.late == 0) {
			return replay[T](one, operation, params)
		}
		keeps = &stored{params: operation + params, at: s.now(), ended: true}
	}
	if f.refused != nil {
		if keeps != nil && f.kept {
			keeps.err = f.refused
			s.keys[key] = keeps
		}
		return answer, false, f.refused
	}
	answer, failed = do()
	if keeps != nil && (failed == nil || failed.Class == provider.Declined) { // nothing is kept of what fails validation
		keeps.answer, keeps.err = answer, failed
		if f.kept {
			keeps.err = f.broken
		}
		s.keys[key] = keeps
	} else if keeps != nil {
		delete(s.keys, key)
	}
	if f.broken != nil {
		failed = f.broken
	}
	return answer, false, failed
}

// replay answers from a key.
func replay[T any](one *stored, operation, params string) (answer T, replayed bool, failed *provider.Error) {
	switch {
	case one.params != operation+params:
		return answer, false, &provider.Error{
			Class: provider.Invalid, Operation: operation, Code: "idempotency_error", Status: http.StatusBadRequest,
		}
	case !one.ended:
		return answer, false, &provider.Error{
			Class: provider.Transient, Operation: operation, Code: "idempotency_key_in_use", Status: http.StatusConflict,
		}
	}
	answer, _ = one.answer.(T) // nothing with an error
	if one.err != nil {
		again := *one.err
		again.Replayed = true
		return answer, true, &again
	}
	return answer, true, nil
}

func writes(operation, key string, ids ...string) error {
	if key == "" || len(key) > 255 || strings.TrimSpace(key) != key {
		return &provider.Error{Class: provider.Invalid, Operation: operation, Code: "key"}
	}
	return needs(operation, ids...)
}

func needs(operation string, ids ...string) error {
	if slices.Contains(ids, "") {
		return &provider.Error{Class: provider.Invalid, Operation: operation, Code: "id_missing"}
	}
	return nil
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

type none struct{}

// CreateCustomer implements [provider.Customers].
func (a *API) CreateCustomer(ctx context.Context, key string, owner engine.Owner) (string, error) {
	const op = "customers.create"
	if err := writes(op, key); err != nil {
		return "", err
	}
	id, _, err := call(ctx, a, op, key, fmt.Sprint(owner), func() (string, *provider.Error) {
		c := &customer{id: a.s.id("cus"), owner: owner, created: a.s.now()}
		a.s.customers[c.id] = c
		a.s.order.customers = append(a.s.order.customers, c)
		a.s.emit("customer.created", c.id, provider.CustomerSeen{Owner: owner, ID: c.id})
		return c.id, nil
	})
	return id, err
}

// FindCustomer implements [provider.Customers].
func (a *API) FindCustomer(ctx context.Context, owner engine.Owner, made provider.Span) (string, error) {
	id, _, err := call(ctx, a, "customers.list", "", "", func() (string, *provider.Error) {
		for _, c := range a.s.order.customers {
			if !c.deleted && owns(owner, c.owner) && within(made, c.created) {
				return c.id, nil
			}
		}
		return "", nil
	})
	return id, err
}

// CustomersMade implements [provider.Customers].
func (a *API) CustomersMade(ctx context.Context, made provider.Span, most int) (ids map[string]string, complete bool, err error) {
	ids, _, err = call(ctx, a, "customers.list", "", "", func() (map[string]string, *provider.Error) {
		ids := map[string]string{}
		for _, c := range a.s.order.customers {
			// The model has one environment.
			if _, older := ids[c.owner.Customer]; !older && !c.deleted && c.owner.Env != "" && within(made, c.created) {
				ids[c.owner.Customer] = c.id
			}
		}
		return ids, nil
	})
	return ids, err == nil && len(ids) <= most, err
}

// skew is how much earlier look-ups begin than asked, and how much later they end.
const skew = 5 * time.Minute

func within(made provider.Span, at time.Time) bool {
	return !at.Before(made.Since.Add(-skew)) && (made.Until.IsZero() || !at.After(made.Until.Add(skew)))
}

// owns tells whether an object is the wanted one's: each word that is asked for is there, and the environment.
func owns(want, has engine.Owner) bool {
	names := func(want, has string) bool { return want == "" || want == has }
	return want.Env != "" && want != (engine.Owner{Env: want.Env}) && want.Env == has.Env && names(want.Customer, has.Customer) &&
		names(want.Charge, has.Charge) && names(want.Checkout, has.Checkout) && names(want.Setup, has.Setup)
}

// UpdateCustomer implements [provider.Customers].
func (a *API) UpdateCustomer(ctx context.Context, key, id string, p provider.Profile) error {
	const op = "customers.update"
	if err := writes(op, key, id); err != nil {
		return err
	}
	_, _, err := call(ctx, a, op, key, id+fmt.Sprint(p.Email, p.Name, len(p.Metadata)), func() (none, *provider.Error) {
		c, failed := a.s.live(op, id)
		if failed != nil {
			return none{}, failed
		}
		metadata := maps.Clone(p.Metadata)
		if metadata == nil {
			metadata = map[string]string{}
		}
		maps.Copy(metadata, c.owner.Metadata())
		c.stale = a.s.late
		c.profile = provider.Profile{Email: p.Email, Name: p.Name, Metadata: metadata}
		a.s.emit("customer.updated", id)
		return none{}, nil
	})
	return err
}

// SetDefaultMethod implements [provider.Customers].
func (a *API) SetDefaultMethod(ctx context.Context, key, id, methodID string) error {
	const op = "customers.update"
	if err := writes(op, key, id); err != nil {
		return err
	}
	_, _, err := call(ctx, a, op, key, id+" "+methodID, func() (none, *provider.Error) {
		c, failed := a.s.live(op, id)
		if failed != nil {
			return none{}, failed
		}
		if m := a.s.methods[methodID]; m == nil || !m.attached || m.customer != id {
			return none{}, missing(op, "invoice_settings[default_payment_method]")
		}
		c.def = methodID
		return none{}, nil
	})
	return err
}

// DeleteCustomer implements [provider.Customers].
func (a *API) DeleteCustomer(ctx context.Context, key, id string) error {
	const op = "customers.delete"
	if err := writes(op, key, id); err != nil {
		return err
	}
	_, _, err := call(ctx, a, op, key, id, func() (none, *provider.Error) {
		c, failed := a.s.live(op, id)
		if failed == nil {
			a.s.remove(c)
		}
		return none{}, failed
	})
	if provider.NoCustomer(err) {
		return nil
	}
	return err
}

// CreateSession implements [provider.Sessions].
func (a *API) CreateSession(ctx context.Context, key string, r provider.SessionRequest) (engine.Session, error) {
	const op = "checkout_sessions.create"
	if err := writes(op, key, r.CustomerID); err != nil {
		return engine.Session{}, err
	}
	got, _, err := call(ctx, a, op, key, fmt.Sprint(r.CustomerID, r.Owner, r.Amount, r.Currency), func() (engine.Session, *provider.Error) {
		if _, failed := a.s.live(op, r.CustomerID); failed != nil {
			return engine.Session{}, failed
		}
		now := a.s.now()
		x := &session{save: r.SaveMethod, asked: r, now: engine.Session{
			Owner: r.Owner, ID: a.s.id("cs"), Setup: r.Setup, ProviderCustomerID: r.CustomerID, Status: engine.SessionOpen,
			ExpiresAt: now.Add(24 * time.Hour).Truncate(time.Second), CreatedAt: now,
		}}
		x.now.URL = "https://pay.example/" + x.now.ID
		a.s.sessions[x.now.ID] = x
		a.s.order.sessions = append(a.s.order.sessions, x)
		a.s.later(24*time.Hour, func() { a.s.expire(x) })
		return x.now, nil
	})
	return got, err
}

// Session implements [provider.Sessions].
func (a *API) Session(ctx context.Context, id string) (engine.Session, error) {
	const op = "checkout_sessions.retrieve"
	if err := needs(op, id); err != nil {
		return engine.Session{}, err
	}
	got, _, err := call(ctx, a, op, "", "", func() (engine.Session, *provider.Error) {
		x := a.s.sessions[id]
		if x == nil {
			return engine.Session{}, missing(op, "session")
		}
		return x.now, nil
	})
	return got, err
}

// FindSession implements [provider.Sessions].
func (a *API) FindSession(ctx context.Context, customerID string, owner engine.Owner, made provider.Span) (engine.Session, bool, error) {
	const op = "checkout_sessions.list"
	if err := needs(op, customerID); err != nil {
		return engine.Session{}, false, err
	}
	got, _, err := call(ctx, a, op, "", "", func() (engine.Session, *provider.Error) {
		var found engine.Session
		for _, x := range a.s.order.sessions {
			if x.now.ProviderCustomerID != customerID || !owns(owner, x.now.Owner) || !within(made, x.now.CreatedAt) {
				continue
			}
			if found.ID == "" || x.now.Status == engine.SessionComplete && found.Status != engine.SessionComplete {
				found = x.now
			}
		}
		return found, nil
	})
	return got, err == nil && got.ID != "", err
}

// ExpireSession implements [provider.Sessions].
func (a *API) ExpireSession(ctx context.Context, key, id string) (engine.Session, error) {
	const op = "checkout_sessions.expire"
	if err := writes(op, key, id); err != nil {
		return engine.Session{}, err
	}
	got, _, err := call(ctx, a, op, key, id, func() (engine.Session, *provider.Error) {
		x := a.s.sessions[id]
		switch {
		case x == nil:
			return engine.Session{}, missing(op, "session")
		case x.now.Status != engine.SessionOpen:
			return engine.Session{}, invalid(op, "", "only open sessions can be expired")
		}
		a.s.expire(x)
		return x.now, nil
	})
	failed, ok := errors.AsType[*provider.Error](err)
	switch {
	case err == nil:
		return got, nil
	case !ok || failed.Class != provider.Invalid || failed.NotFound:
		return engine.Session{}, err
	}
	return a.Session(ctx, id)
}

// CreatePayment implements [provider.Payments].
func (a *API) CreatePayment(ctx context.Context, key string, r provider.PaymentRequest) (engine.Payment, error) {
	const op = "payment_intents.create"
	if err := writes(op, key, r.CustomerID); err != nil {
		return engine.Payment{}, err
	}
	params := fmt.Sprint(r.CustomerID, r.MethodID, r.Owner, r.Amount, r.Currency)
	got, _, err := call(ctx, a, op, key, params, func() (engine.Payment, *provider.Error) {
		if _, failed := a.s.live(op, r.CustomerID); failed != nil {
			return engine.Payment{}, failed
		}
		if m := a.s.methods[r.MethodID]; m == nil || !m.attached || m.customer != r.CustomerID {
			return engine.Payment{}, missing(op, "payment_method")
		}
		p := &payment{method: r.MethodID, now: engine.Payment{
			Owner: r.Owner, ID: a.s.id("pi"), ProviderCustomerID: r.CustomerID, ProviderMethodID: r.MethodID,
			Status: engine.PaymentRequiresConfirmation, Amount: r.Amount, Currency: r.Currency, CreatedAt: a.s.now(),
		}}
		a.s.payments[p.now.ID] = p
		a.s.order.payments = append(a.s.order.payments, p)
		return p.now, nil
	})
	return got, err
}

// errUnexpected is what Stripe says of a payment that can't be treated so as it stands.
func unexpected(op string) *provider.Error {
	return &provider.Error{Class: provider.Invalid, Operation: op, Code: "payment_intent_unexpected_state", Status: http.StatusBadRequest}
}

// ConfirmPayment implements [provider.Payments], as the adapter does.
func (a *API) ConfirmPayment(ctx context.Context, key, id string, r provider.ConfirmRequest) (engine.Payment, error) {
	const op = "payment_intents.confirm"
	if err := writes(op, key, id); err != nil {
		return engine.Payment{}, err
	}
	got, replayed, err := call(ctx, a, op, key, id+" "+r.MethodID+" "+r.ReturnURL, func() (engine.Payment, *provider.Error) {
		p := a.s.payments[id]
		if p == nil {
			return engine.Payment{}, missing(op, "intent")
		}
		if p.now.Status != engine.PaymentRequiresConfirmation && p.now.Status != engine.PaymentRequiresMethod {
			return engine.Payment{}, unexpected(op)
		}
		if r.MethodID != "" {
			p.method = r.MethodID
		}
		if m := a.s.methods[p.method]; m == nil || !m.attached {
			return engine.Payment{}, invalid(op, "payment_method", "it is attached to nobody")
		}
		a.s.attempt(p, r.ReturnURL != "")
		if p.now.Status == engine.PaymentRequiresMethod {
			return p.now, &provider.Error{Class: provider.Declined, Operation: op, Code: p.now.Failure.Code, DeclineCode: p.now.Failure.DeclineCode, Status: http.StatusPaymentRequired}
		}
		if p.now.Status == engine.PaymentProcessing {
			a.s.later(slowAfter(p), func() { a.s.settle(p, p.now.Amount%3 != 0) })
		}
		return p.now, nil
	})
	failed, ok := errors.AsType[*provider.Error](err)
	switch {
	case err != nil && !ok:
		return engine.Payment{}, err
	case ok && failed.Class == provider.Declined && !replayed:
		return got, nil
	case ok && failed.Class != provider.Declined && failed.Code != "payment_intent_unexpected_state":
		return engine.Payment{}, err
	case ok || replayed:
		now, err := a.Payment(ctx, id)
		if failed, ok := errors.AsType[*provider.Error](err); ok && failed.Class == provider.Transient {
			failed.Class = provider.InDoubt
		}
		return now, err
	}
	return got, nil
}

// slowAfter is how long a slow payment takes.
func slowAfter(p *payment) time.Duration {
	return time.Minute + time.Duration(p.now.Amount)*97*time.Second%(30*time.Hour)
}

// Payment implements [provider.Payments].
func (a *API) Payment(ctx context.Context, id string) (engine.Payment, error) {
	const op = "payment_intents.retrieve"
	if err := needs(op, id); err != nil {
		return engine.Payment{}, err
	}
	got, _, err := call(ctx, a, op, "", "", func() (engine.Payment, *provider.Error) {
		p := a.s.payments[id]
		if p == nil {
			return engine.Payment{}, missing(op, "intent")
		}
		return p.now, nil
	})
	return got, err
}

// FindPayment implements [provider.Payments].
func (a *API) FindPayment(ctx context.Context, customerID string, owner engine.Owner, made provider.Span) (engine.Payment, bool, error) {
	const op = "payment_intents.list"
	if err := needs(op, customerID); err != nil {
		return engine.Payment{}, false, err
	}
	got, _, err := call(ctx, a, op, "", "", func() (engine.Payment, *provider.Error) {
		var found engine.Payment
		for _, p := range a.s.order.payments {
			if p.now.ProviderCustomerID != customerID || !owns(owner, p.now.Owner) || !within(made, p.now.CreatedAt) {
				continue
			}
			if found.ID == "" || p.now.Status == engine.PaymentSucceeded && found.Status != engine.PaymentSucceeded {
				found = p.now
			}
		}
		return found, nil
	})
	return got, err == nil && got.ID != "", err
}

// CancelPayment implements [provider.Payments], as the adapter does.
func (a *API) CancelPayment(ctx context.Context, key, id string, abandoned bool) (engine.Payment, error) {
	const op = "payment_intents.cancel"
	if err := writes(op, key, id); err != nil {
		return engine.Payment{}, err
	}
	final := func(p engine.Payment) bool {
		return p.Status == engine.PaymentSucceeded || p.Status == engine.PaymentCanceled
	}
	present, err := a.Payment(ctx, id)
	if err != nil || final(present) {
		return present, err
	}
	if present.Status == engine.PaymentProcessing {
		return engine.Payment{}, &provider.Error{Class: provider.Transient, Operation: op, Code: "payment_intent_unexpected_state"}
	}
	got, _, err := call(ctx, a, op, key, fmt.Sprint(id, abandoned), func() (engine.Payment, *provider.Error) {
		p := a.s.payments[id]
		if p == nil {
			return engine.Payment{}, missing(op, "intent")
		}
		if final(p.now) || p.now.Status == engine.PaymentProcessing || p.session != nil && p.session.now.Status == engine.SessionOpen {
			return engine.Payment{}, unexpected(op)
		}
		a.s.cancel(p, abandoned)
		return p.now, nil
	})
	failed, ok := errors.AsType[*provider.Error](err)
	switch {
	case err == nil:
		return got, nil
	case !ok || failed.Code != "payment_intent_unexpected_state":
		return engine.Payment{}, err
	}
	if present, err = a.Payment(ctx, id); err != nil || final(present) {
		return present, err
	}
	failed.Class = provider.Transient
	return engine.Payment{}, failed
}

// DetachMethod implements [provider.Methods], as the adapter does.
func (a *API) DetachMethod(ctx context.Context, key, id string) error {
	const op = "payment_methods.detach"
	if err := writes(op, key, id); err != nil {
		return err
	}
	_, _, err := call(ctx, a, op, key, id, func() (none, *provider.Error) {
		m := a.s.methods[id]
		switch {
		case m == nil:
			return none{}, missing(op, "payment_method")
		case !m.attached:
			return none{}, invalid(op, "payment_method", "attached to nobody")
		}
		a.s.detach(m)
		return none{}, nil
	})
	failed, ok := errors.AsType[*provider.Error](err)
	if !ok || failed.Class != provider.Invalid || failed.NotFound {
		return err
	}
	present, asked := a.Method(ctx, id)
	switch {
	case asked != nil:
		return asked // not known
	case !present.Attached:
		return nil
	}
	return err
}

// Method implements [provider.Methods].
func (a *API) Method(ctx context.Context, id string) (engine.Method, error) {
	const op = "payment_methods.retrieve"
	if err := needs(op, id); err != nil {
		return engine.Method{}, err
	}
	got, _, err := call(ctx, a, op, "", "", func() (engine.Method, *provider.Error) {
		m := a.s.methods[id]
		if m == nil {
			return engine.Method{}, missing(op, "payment_method")
		}
		return m.now(), nil
	})
	return got, err
}
