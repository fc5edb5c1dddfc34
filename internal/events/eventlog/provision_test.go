package eventlog_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
)

func TestProvisionIsIdempotent(t *testing.T) {
	t.Parallel()
	nc := eventlogtest.Start(t).Conn(t)
	if _, err := eventlog.Open(t.Context(), nc, eventlog.Config{}); !errors.Is(err, eventlog.ErrNotProvisioned) {
		t.Fatalf("open before provisioning: %v", err)
	}
	first, err := eventlog.Provision(t.Context(), nc, eventlog.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if len(first.Created) != 13 || first.Env == "" || first.MaxBytes <= 0 {
		t.Errorf("first: %+v", first)
	}
	l, err := eventlog.Open(t.Context(), nc, eventlog.Config{})
	if err != nil {
		t.Fatal(err)
	}
	appendCustomer(t, l, "a", 2)
	second, err := eventlog.Provision(t.Context(), nc, eventlog.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if len(second.Unchanged) != 13 || second.Env != first.Env || second.MaxBytes != first.MaxBytes {
		t.Errorf("second: %+v, first: %+v", second, first)
	}
	if l.Env() != first.Env || l.Prefix() != "paykit" {
		t.Errorf("env %q, prefix %q", l.Env(), l.Prefix())
	}
	larger, err := eventlog.Provision(t.Context(), nc, eventlog.Config{MaxBytes: first.MaxBytes / 2})
	if err != nil || larger.MaxBytes != first.MaxBytes/2 || !slices.Equal(larger.Updated, []string{"PAYKIT_LOG"}) {
		t.Errorf("another size: %+v, %v", larger, err)
	}
	checkChain(t, l)
	names := []string{}
	for name := range js(t, l).StreamNames(t.Context()).Name() {
		names = append(names, name)
	}
	slices.Sort(names)
	if want := "PAYKIT_CALLS PAYKIT_COMMANDS PAYKIT_DEAD PAYKIT_INBOX PAYKIT_LINKS PAYKIT_LOG PAYKIT_PROFILES"; strings.Join(names, " ") != want {
		t.Errorf("streams %v", names)
	}
	if stream, created := l.CommandsCreated(t.Context(), 1); stream != "PAYKIT_COMMANDS" || time.Since(created) > time.Minute {
		t.Errorf("commands: %s, %v", stream, created)
	}
}

func TestLogTakesFourFifthsOfTheRoom(t *testing.T) {
	t.Parallel()
	const limit = 1 << 30
	nc := eventlogtest.Start(t, func(o *server.Options) { o.JetStreamMaxStore = limit }).Conn(t)
	r, err := eventlog.Provision(t.Context(), nc, eventlog.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if part := float64(r.MaxBytes) / limit; part > 0.8 || part < 0.77 {
		t.Errorf("the log takes %.3f of the room", part)
	}
}

func TestTwoInstallationsOnOneServer(t *testing.T) {
	t.Parallel()
	nc := eventlogtest.Start(t).Conn(t)
	var logs []*eventlog.Log
	for _, prefix := range []string{"paykit", "pay-two"} {
		cfg := eventlog.Config{Prefix: prefix, MaxBytes: 64 << 20, Env: "env of " + prefix}
		if _, err := eventlog.Provision(t.Context(), nc, cfg); err != nil {
			t.Fatal(err)
		}
		l, err := eventlog.Open(t.Context(), nc, cfg)
		if err != nil {
			t.Fatal(err)
		}
		logs = append(logs, l)
	}
	appendCustomer(t, logs[1], "a", 1)
	if _, err := logs[0].Load(t.Context(), events.EntityCustomer, events.CustomerID("a")); !errors.Is(err, eventlog.ErrNotFound) {
		t.Errorf("seen in the other: %v", err)
	}
	if logs[0].Env() != "env of paykit" || logs[1].Env() != "env of pay-two" {
		t.Errorf("%q, %q", logs[0].Env(), logs[1].Env())
	}
	for _, prefix := range []string{"pay.kit", "pay kit", "pay>", "PAY"} {
		if _, err := eventlog.Provision(t.Context(), nc, eventlog.Config{Prefix: prefix}); err == nil {
			t.Errorf("prefix %q was taken", prefix)
		}
	}
}

func TestEnvironmentStays(t *testing.T) {
	t.Parallel()
	nc := eventlogtest.Start(t).Conn(t)
	first, err := eventlog.Provision(t.Context(), nc, eventlog.Config{MaxBytes: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []func() error{
		func() error {
			_, err := eventlog.Provision(t.Context(), nc, eventlog.Config{Env: "other"})
			return err
		},
		func() error {
			_, err := eventlog.Open(t.Context(), nc, eventlog.Config{Env: "other"})
			return err
		},
	} {
		var weakened *eventlog.WeakenedError
		if err := f(); !errors.As(err, &weakened) || weakened.Setting != "metadata.paykit_env" || !strings.Contains(weakened.Got, first.Env) {
			t.Errorf("another environment: %v", err)
		}
	}
	if _, err := eventlog.Open(t.Context(), nc, eventlog.Config{Env: first.Env}); err != nil {
		t.Errorf("the same environment: %v", err)
	}
	// Without its name in the metadata nobody may go on under a new one.
	update(t, nc, "PAYKIT_LOG", func(c *jetstream.StreamConfig) { delete(c.Metadata, "paykit_env") })
	if _, err := eventlog.Open(t.Context(), nc, eventlog.Config{}); err == nil {
		t.Error("opened without an environment")
	}
	if _, err := eventlog.Provision(t.Context(), nc, eventlog.Config{}); err == nil {
		t.Error("provisioned without an environment")
	}
	if _, err := eventlog.Provision(t.Context(), nc, eventlog.Config{Env: first.Env}); err != nil {
		t.Errorf("given back: %v", err)
	}
}

func update(t *testing.T, nc *nats.Conn, stream string, change func(*jetstream.StreamConfig)) {
	t.Helper()
	j, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := j.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	c := s.CachedInfo().Config
	change(&c)
	if _, err := j.UpdateStream(t.Context(), c); err != nil {
		t.Fatalf("weaken %s: %v", stream, err)
	}
}

// remake puts a stream with other settings in the place of one.
func remake(t *testing.T, nc *nats.Conn, stream string, change func(*jetstream.StreamConfig)) {
	t.Helper()
	j, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := j.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	c := s.CachedInfo().Config
	if err := j.DeleteStream(t.Context(), stream); err != nil {
		t.Fatal(err)
	}
	change(&c)
	if _, err := j.CreateStream(t.Context(), c); err != nil {
		t.Fatalf("remake %s: %v", stream, err)
	}
}

// Each row weakens one promise. Open must refuse it and name it; Provision must put it right, or refuse it too.
func TestWeakenedStreams(t *testing.T) {
	t.Parallel()
	tests := []struct {
		stream, setting, want, got string
		remake                     bool // can't be changed in place
		stays                      bool // can't be put right in place
		change                     func(*jetstream.StreamConfig)
	}{
		{"PAYKIT_LOG", "max_age", "0s", "1h0m0s", false, false, func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }},
		{"PAYKIT_LOG", "max_msgs", "unlimited", "1000", false, false, func(c *jetstream.StreamConfig) { c.MaxMsgs = 1000 }},
		{"PAYKIT_LOG", "max_msgs_per_subject", "unlimited", "1", false, false, func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 1 }},
		{"PAYKIT_LOG", "max_bytes", "a limit", "unlimited", false, false, func(c *jetstream.StreamConfig) { c.MaxBytes = -1 }},
		{"PAYKIT_LOG", "max_msg_size", "at least 263168", "1000", false, false, func(c *jetstream.StreamConfig) { c.MaxMsgSize = 1000 }},
		{"PAYKIT_LOG", "discard", "new", "old", false, false, func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld }},
		{"PAYKIT_LOG", "allow_direct", "true", "false", false, false, func(c *jetstream.StreamConfig) { c.AllowDirect = false }},
		{"PAYKIT_LOG", "allow_atomic", "false", "true", false, false, func(c *jetstream.StreamConfig) { c.AllowAtomicPublish = true }},
		{"PAYKIT_LOG", "allow_batched", "false", "true", false, false, func(c *jetstream.StreamConfig) { c.AllowBatchPublish = true }},
		{"PAYKIT_LOG", "no_ack", "false", "true", false, false, func(c *jetstream.StreamConfig) { c.NoAck = true }},
		{"PAYKIT_LOG", "allow_msg_ttl", "false", "true", false, true, func(c *jetstream.StreamConfig) { c.AllowMsgTTL = true }},
		{"PAYKIT_LOG", "republish", "paykit.log.*.*.*.* → paykit.events.{{wildcard(1)}}.{{wildcard(2)}}.{{wildcard(4)}}", "missing", false, false, func(c *jetstream.StreamConfig) { c.RePublish = nil }},
		{"PAYKIT_LOG", "subjects", "[paykit.log.*.*.*.*]", "[paykit.log.charge.*.*.*]", false, false, func(c *jetstream.StreamConfig) { c.Subjects = []string{"paykit.log.charge.*.*.*"} }},
		{"PAYKIT_LOG", "subject_transform", "none", "&{paykit.log.*.*.*.* paykit.log.x.x.x.x}", false, false, func(c *jetstream.StreamConfig) {
			c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "paykit.log.*.*.*.*", Destination: "paykit.log.x.x.x.x"}
		}},
		{"PAYKIT_LOG", "sources", "none", "1", false, false, func(c *jetstream.StreamConfig) {
			c.Sources = []*jetstream.StreamSource{{Name: "ELSEWHERE"}}
		}},
		{"PAYKIT_LOG", "deny_delete", "true", "false", true, false, func(c *jetstream.StreamConfig) { c.DenyDelete = false }},
		{"PAYKIT_LOG", "deny_purge", "true", "false", true, false, func(c *jetstream.StreamConfig) { c.DenyPurge = false }},
		{"PAYKIT_LOG", "allow_rollup_hdrs", "false", "true", true, false, func(c *jetstream.StreamConfig) { c.DenyPurge, c.AllowRollup = false, true }},
		{"PAYKIT_LOG", "storage", "File", "Memory", true, true, func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }},
		{"PAYKIT_LOG", "retention", "Limits", "Interest", true, false, func(c *jetstream.StreamConfig) { c.Retention = jetstream.InterestPolicy }},
		{"PAYKIT_LOG", "persist_mode", "default", "Async", true, true, func(c *jetstream.StreamConfig) {
			c.PersistMode = jetstream.AsyncPersistMode
		}},
		{"PAYKIT_LINKS", "discard", "new", "new per subject", false, false, func(c *jetstream.StreamConfig) { c.DiscardNewPerSubject = true }},
		{"PAYKIT_INBOX", "max_age", "1008h0m0s", "24h0m0s", false, false, func(c *jetstream.StreamConfig) { c.MaxAge = 24 * time.Hour }},
		{"PAYKIT_INBOX", "allow_atomic", "true", "false", false, false, func(c *jetstream.StreamConfig) { c.AllowAtomicPublish = false }},
		{"PAYKIT_COMMANDS", "retention", "WorkQueue", "Limits", true, true, func(c *jetstream.StreamConfig) { c.Retention = jetstream.LimitsPolicy }},
		{"PAYKIT_PROFILES", "deny_delete", "false", "true", true, true, func(c *jetstream.StreamConfig) { c.DenyDelete = true }},
		{"PAYKIT_PROFILES", "republish", "missing", "> → leak.>", false, false, func(c *jetstream.StreamConfig) {
			c.RePublish = &jetstream.RePublish{Source: ">", Destination: "leak.>"}
		}},
		{"PAYKIT_DEAD", "max_age", "8760h0m0s", "0s", false, false, func(c *jetstream.StreamConfig) { c.MaxAge = 0 }},
		{"PAYKIT_CALLS", "max_age", "8760h0m0s", "24h0m0s", false, false, func(c *jetstream.StreamConfig) { c.MaxAge = 24 * time.Hour }},
		{"PAYKIT_CALLS", "subjects", "[paykit.call.*.*.*]", "[paykit.call.charge.*.*]", false, false, func(c *jetstream.StreamConfig) {
			c.Subjects = []string{"paykit.call.charge.*.*"}
		}},
		{"PAYKIT_CALLS", "storage", "File", "Memory", true, true, func(c *jetstream.StreamConfig) {
			c.Storage, c.PersistMode = jetstream.MemoryStorage, jetstream.DefaultPersistMode
		}},
	}
	nc := eventlogtest.Start(t).Conn(t)
	cfg := eventlog.Config{MaxBytes: 16 << 20}
	for _, tt := range tests {
		name := tt.stream + " " + tt.setting
		if _, err := eventlog.Provision(t.Context(), nc, cfg); err != nil {
			t.Fatal(err)
		}
		if tt.remake {
			remake(t, nc, tt.stream, tt.change)
		} else {
			update(t, nc, tt.stream, tt.change)
		}
		_, err := eventlog.Open(t.Context(), nc, cfg)
		if w := weakened(err, tt.setting); w == nil || w.Stream != tt.stream || w.Want != tt.want || w.Got != tt.got {
			t.Errorf("%s: open said: %v", name, err)
		}
		for _, word := range []string{tt.stream, tt.setting, tt.want, tt.got} {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%s: %q does not name %q", name, err, word)
			}
		}
		_, err = eventlog.Provision(t.Context(), nc, cfg)
		switch {
		case tt.stays:
			if weakened(err, tt.setting) == nil {
				t.Errorf("%s: provision said: %v", name, err)
			}
			deleteStream(t, nc, tt.stream)
		case err != nil:
			t.Errorf("%s: not put right: %v", name, err)
		default:
			if _, err := eventlog.Open(t.Context(), nc, cfg); err != nil {
				t.Errorf("%s: after it was put right: %v", name, err)
			}
		}
	}
}

// weakened finds what err says about a setting, nil for nothing.
func weakened(err error, setting string) *eventlog.WeakenedError {
	for err != nil {
		switch e := err.(type) { //nolint:errorlint // walks the tree itself
		case *eventlog.WeakenedError:
			if e.Setting == setting {
				return e
			}
			return nil
		case interface{ Unwrap() []error }:
			for _, one := range e.Unwrap() {
				if w := weakened(one, setting); w != nil {
					return w
				}
			}
			return nil
		default:
			err = errors.Unwrap(err)
		}
	}
	return nil
}

func deleteStream(t *testing.T, nc *nats.Conn, name string) {
	t.Helper()
	j, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.DeleteStream(t.Context(), name); err != nil {
		t.Fatal(err)
	}
}

// What strengthens a promise, or means nothing to it, is nobody's business.
func TestHarmlessDifferences(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	nc := l.Conn()
	update(t, nc, "PAYKIT_LOG", func(c *jetstream.StreamConfig) {
		c.MaxBytes *= 2
		c.Description = "ours"
		c.MaxMsgSize = 1 << 20
		c.Duplicates = time.Minute
		c.Metadata["owner"] = "billing"
	})
	update(t, nc, "PAYKIT_PROFILES", func(c *jetstream.StreamConfig) { c.DenyPurge = true })
	update(t, nc, "PAYKIT_CALLS", func(c *jetstream.StreamConfig) { c.MaxBytes, c.Discard = 1<<20, jetstream.DiscardOld })
	j := js(t, l)
	c, err := j.Consumer(t.Context(), "PAYKIT_LOG", "settling")
	if err != nil {
		t.Fatal(err)
	}
	config := c.CachedInfo().Config
	config.MaxAckPending, config.AckWait, config.Description = 20_000, 10*time.Second, "ours"
	if _, err := j.UpdateConsumer(t.Context(), "PAYKIT_LOG", config); err != nil {
		t.Fatal(err)
	}
	if _, err := eventlog.Open(t.Context(), nc, eventlog.Config{}); err != nil {
		t.Error(err)
	}
	r, err := eventlog.Provision(t.Context(), nc, eventlog.Config{})
	if err != nil || len(r.Updated) != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestWeakenedConsumers(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		stream, consumer, setting string
		change                    func(*jetstream.ConsumerConfig)
	}{
		"a filter fewer": {"PAYKIT_LOG", "requests", "filter_subjects", func(c *jetstream.ConsumerConfig) { c.FilterSubjects = c.FilterSubjects[1:] }},
		// An installation from before retry schedules.
		"older events": {"PAYKIT_LOG", "settling", "filter_subjects", func(c *jetstream.ConsumerConfig) {
			c.FilterSubjects = slices.DeleteFunc(c.FilterSubjects, func(s string) bool {
				return strings.Contains(s, ".failed.") || strings.Contains(s, ".retry_requested.")
			})
		}},
		"long ack wait": {"PAYKIT_LOG", "requests", "ack_wait", func(c *jetstream.ConsumerConfig) { c.AckWait = time.Minute }},
		"gives up":      {"PAYKIT_LOG", "settling", "max_deliver", func(c *jetstream.ConsumerConfig) { c.MaxDeliver = 5 }},
		"few pending":   {"PAYKIT_INBOX", "normalizer", "max_ack_pending", func(c *jetstream.ConsumerConfig) { c.MaxAckPending = 10 }},
		"small pulls":   {"PAYKIT_LOG", "requests", "max_batch", func(c *jetstream.ConsumerConfig) { c.MaxRequestBatch = 1 }},
		"short pulls":   {"PAYKIT_INBOX", "normalizer", "max_expires", func(c *jetstream.ConsumerConfig) { c.MaxRequestExpires = time.Second }},
		"headers only":  {"PAYKIT_COMMANDS", "commands", "headers_only", func(c *jetstream.ConsumerConfig) { c.HeadersOnly = true }},
		"not pinned": {"PAYKIT_LOG", "requests", "priority_policy", func(c *jetstream.ConsumerConfig) {
			c.PriorityPolicy, c.PriorityGroups, c.PinnedTTL = jetstream.PriorityPolicyNone, nil, 0
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := eventlogtest.Provisioned(t)
			j := js(t, l)
			c, err := j.Consumer(t.Context(), tt.stream, tt.consumer)
			if err != nil {
				t.Fatal(err)
			}
			config := c.CachedInfo().Config
			tt.change(&config)
			if _, err := j.UpdateConsumer(t.Context(), tt.stream, config); err != nil {
				t.Fatal(err)
			}
			_, err = eventlog.Open(t.Context(), l.Conn(), eventlog.Config{})
			var weakened *eventlog.WeakenedError
			if !errors.As(err, &weakened) || weakened.Stream != tt.stream+" consumer "+tt.consumer || weakened.Setting != tt.setting {
				t.Errorf("open said: %v", err)
			}
			r, err := eventlog.Provision(t.Context(), l.Conn(), eventlog.Config{})
			if err != nil || !slices.Equal(r.Updated, []string{tt.stream + " consumer " + tt.consumer}) {
				t.Errorf("provision: %+v, %v", r, err)
			}
		})
	}
	l := eventlogtest.Provisioned(t)
	if err := js(t, l).DeleteConsumer(t.Context(), "PAYKIT_LOG", "settling"); err != nil {
		t.Fatal(err)
	}
	if _, err := eventlog.Open(t.Context(), l.Conn(), eventlog.Config{}); !errors.Is(err, eventlog.ErrNotProvisioned) {
		t.Errorf("a consumer is missing: %v", err)
	}
}

func TestServerTooOld(t *testing.T) {
	t.Parallel()
	srv := eventlogtest.Start(t)
	for version, tooOld := range map[string]bool{"2.11.17": true, "1.99.0": true, "2.12.0": false, "3.0.0": false, "": true} {
		p := startProxy(t, srv.URL, func(b []byte) []byte {
			return []byte(strings.Replace(string(b), `"version":"`+server.VERSION+`"`, `"version":"`+version+`"`, 1))
		})
		nc := (&eventlogtest.Server{URL: p.URL}).Conn(t)
		_, err := eventlog.Provision(t.Context(), nc, eventlog.Config{MaxBytes: 64 << 20})
		var old *eventlog.VersionError
		if errors.As(err, &old) != tooOld || tooOld && (old.Found != version || !strings.Contains(err.Error(), "2.12")) {
			t.Errorf("%q: %v", version, err)
		}
		nc.Close()
	}
}

// The way back from a card leads, rebuilt, to the earliest method that still is that card.
func TestCardsAreRebuiltFromTheLog(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	customer := events.CustomerRef{ID: events.CustomerID("a"), ReferenceID: "a"}
	see := func(pm, fingerprint string, attached bool) string {
		t.Helper()
		id := events.PaymentMethodID("stripe", pm)
		_, appended, err := l.Update(t.Context(), events.EntityPaymentMethod, id, func(last *events.Event) (*events.Event, error) {
			return events.DecidePaymentMethod(last, events.MethodObserved{ProviderID: "stripe", Method: events.Method{
				ID: pm, Attached: attached, Type: "card", Fingerprint: fingerprint,
			}}, events.Cause{Now: time.Now(), Source: "/paykit/test", Customer: customer})
		})
		if err != nil || !appended {
			t.Fatalf("appended %v, %v", appended, err)
		}
		return id
	}
	see("pm_1", "fp", true)
	see("pm_2", "fp", true)
	see("pm_2", "other", true) // replaced by another card
	third := see("pm_3", "fp", true)
	see("pm_4", "fp", true)
	see("pm_1", "fp", false)
	see("pm_5", "gone", true)
	see("pm_5", "gone", false)
	see("pm_6", "", true)
	r, err := eventlog.Provision(t.Context(), l.Conn(), eventlog.Config{})
	if err != nil || r.Links != 2 {
		t.Errorf("%+v, %v; want the links of two cards", r, err)
	}
	want := map[string]string{"fp": third, "other": events.PaymentMethodID("stripe", "pm_2")}
	for fingerprint, id := range want {
		k, err := l.Link(t.Context(), "stripe", eventlog.CardObject(customer.ID, fingerprint))
		if err != nil || k != (eventlog.Link{Entity: events.EntityPaymentMethod, ID: id, CustomerID: customer.ID}) {
			t.Errorf("%s: %+v, %v", fingerprint, k, err)
		}
	}
	if r, err = eventlog.Provision(t.Context(), l.Conn(), eventlog.Config{}); err != nil || r.Links != 0 {
		t.Errorf("again: %+v, %v", r, err)
	}
}

func TestLinksAreRebuiltFromTheLog(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	nc := l.Conn()
	ref := events.CustomerRef{ID: events.CustomerID("a"), ReferenceID: "a"}
	cause := events.Cause{Now: time.Now(), Source: "/paykit/test", Customer: ref}
	put := func(entity events.Entity, id string, decide func(*events.Event) (*events.Event, error)) {
		t.Helper()
		if _, appended, err := l.Update(t.Context(), entity, id, decide); err != nil || !appended {
			t.Fatalf("appended %v, %v", appended, err)
		}
	}
	put(events.EntityProviderAccount, events.ProviderAccountID(ref.ID, "stripe"), func(last *events.Event) (*events.Event, error) {
		return events.DecideProviderAccount(last, events.LinkAccount{ProviderID: "stripe", ProviderCustomerID: "cus_1"}, cause)
	})
	charges := map[string]events.Payment{
		"pi_1": {ID: "pi_1", ChargeID: "ch_1", Status: events.PaymentSucceeded, Amount: 100, Currency: "usd"},
		"ch_2": {ChargeID: "ch_2", Status: events.PaymentSucceeded, Amount: 100, Currency: "usd"},
	}
	for _, p := range charges {
		id := events.ReportedChargeID("stripe", p.ID, p.ChargeID)
		put(events.EntityCharge, id, func(last *events.Event) (*events.Event, error) {
			return events.DecideCharge(last, events.PaymentObserved{ID: id, ProviderID: "stripe", Payment: p}, cause)
		})
	}
	createCharge(t, l, "a", "without a payment yet")
	if r, err := eventlog.Provision(t.Context(), nc, eventlog.Config{}); err != nil || r.Links != 3 {
		t.Fatalf("those that were never there: %+v, %v", r, err)
	}
	links, err := js(t, l).Stream(t.Context(), "PAYKIT_LINKS")
	if err != nil {
		t.Fatal(err)
	}
	if err := links.DeleteMsg(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if r, err := eventlog.Provision(t.Context(), nc, eventlog.Config{}); err != nil || r.Links != 1 {
		t.Errorf("one that was lost: %+v, %v", r, err)
	}
	if err := links.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r, err := eventlog.Provision(t.Context(), nc, eventlog.Config{}); err != nil || r.Links != 3 {
		t.Errorf("all that were purged: %+v, %v", r, err)
	}
	if err := js(t, l).DeleteStream(t.Context(), "PAYKIT_LINKS"); err != nil {
		t.Fatal(err)
	}
	r, err := eventlog.Provision(t.Context(), nc, eventlog.Config{})
	if err != nil || r.Links != 3 {
		t.Fatalf("%+v, %v", r, err)
	}
	want := map[string]eventlog.Link{
		"cus_1": {Entity: events.EntityCustomer, ID: ref.ID, CustomerID: ref.ID},
		"pi_1":  {Entity: events.EntityCharge, ID: events.ReportedChargeID("stripe", "pi_1", ""), CustomerID: ref.ID},
		"ch_2":  {Entity: events.EntityCharge, ID: events.ReportedChargeID("stripe", "", "ch_2"), CustomerID: ref.ID},
	}
	for object, link := range want {
		if got, err := l.Link(t.Context(), "stripe", object); err != nil || got != link {
			t.Errorf("%s: %+v, %v", object, got, err)
		}
	}
	if r, err = eventlog.Provision(t.Context(), nc, eventlog.Config{}); err != nil || r.Links != 0 {
		t.Errorf("again: %+v, %v", r, err)
	}
	put(events.EntityCharge, events.ReportedChargeID("stripe", "pi_3", ""), func(last *events.Event) (*events.Event, error) {
		p := events.Payment{ID: "pi_3", Status: events.PaymentSucceeded, Amount: 100, Currency: "usd"}
		return events.DecideCharge(last, events.PaymentObserved{ID: events.ReportedChargeID("stripe", "pi_3", ""), ProviderID: "stripe", Payment: p}, cause)
	})
	if r, err = eventlog.Provision(t.Context(), nc, eventlog.Config{}); err != nil || r.Links != 1 || len(r.Unchanged) != 13 {
		t.Errorf("one more: %+v, %v", r, err)
	}
}
