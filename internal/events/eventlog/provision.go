package eventlog

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/paykit-go/paykit/internal/events"
)

// Report says what Provision found and did.
type Report struct {
	Env       string
	MaxBytes  int64    // of the LOG
	Created   []string // streams and consumers that were not there
	Updated   []string // those that were brought back to what they should be
	Unchanged []string
	Links     int // that were missing and were put back from the LOG
}

// Provision makes the streams and durable consumers, brings weakened ones back to what they should be, gives the
// installation its environment's name and rebuilds missing links from the LOG. It is idempotent; what exists keeps its
// content, its max_bytes (unless cfg.MaxBytes is given) and its replicas (unless cfg.Replicas is). A difference that the
// server can't repair in place is a [*WeakenedError]. It needs the rights of an administrator.
func Provision(ctx context.Context, nc *nats.Conn, cfg Config) (*Report, error) {
	return provision(ctx, nc, cfg, nil)
}

func provision(ctx context.Context, nc *nats.Conn, cfg Config, restored *completion) (*Report, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	js, err := connect(ctx, nc)
	if err != nil {
		return nil, fmt.Errorf("provision: %w", err)
	}
	p := &provisioner{js: js, cfg: cfg, report: &Report{}, restored: restored}
	if err := p.noneRestoring(ctx); err != nil {
		return nil, fmt.Errorf("provision: %w", err)
	}
	for _, want := range streams(cfg) {
		if err := p.stream(ctx, want); err != nil {
			return nil, fmt.Errorf("provision %s: %w", want.Name, err)
		}
	}
	for _, want := range consumers(cfg) {
		if err := p.consumer(ctx, want); err != nil {
			return nil, fmt.Errorf("provision consumer %s of %s: %w", want.Durable, want.stream, err)
		}
	}
	cfg.Env = ""
	l, err := openLog(ctx, nc, cfg, restored != nil)
	if err != nil {
		return nil, fmt.Errorf("provision: %w", err)
	}
	if p.report.Links, err = p.rebuildLinks(ctx, l); err != nil {
		return nil, fmt.Errorf("provision: rebuild the links: %w", err)
	}
	return p.report, nil
}

type provisioner struct {
	js     jetstream.JetStream
	cfg    Config
	report *Report

	restored *completion // nil = this is not the end of a restore
}

// noneRestoring looks before anything is made: a LOG made beside the leavings of a restore would be in the next one's way.
func (p *provisioner) noneRestoring(ctx context.Context) error {
	if p.restored != nil {
		return nil
	}
	for _, want := range streams(p.cfg) {
		info, err := streamInfo(ctx, p.js, want.Name)
		if errors.Is(err, ErrNotProvisioned) {
			continue
		}
		if err == nil {
			err = notRestoring(info.Config)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", want.Name, err)
		}
	}
	return nil
}

const (
	createTries = 5
	storeFailed = 10049 // "error creating store for stream"
)

// create makes a stream. A server that has just begun tries whether it may write to its folder and removes what it made
// for that, which can be the folder of the first stream: that is tried again a moment later.
func (p *provisioner) create(ctx context.Context, want jetstream.StreamConfig) error {
	for try := 0; ; try++ {
		_, err := p.js.CreateStream(ctx, want)
		refused, ok := errors.AsType[*jetstream.APIError](err)
		if !ok || refused.ErrorCode != storeFailed || try >= createTries || !pause(ctx, try) {
			return readError(err)
		}
	}
}

func (p *provisioner) stream(ctx context.Context, want jetstream.StreamConfig) error {
	isLog := want.Name == streamName(p.cfg.Prefix, streamLog)
	info, err := streamInfo(ctx, p.js, want.Name)
	switch {
	case errors.Is(err, ErrNotProvisioned):
		if isLog {
			if err := p.newLog(ctx, &want); err != nil {
				return err
			}
		}
		if err := p.create(ctx, want); err != nil {
			return err
		}
		p.report.Created = append(p.report.Created, want.Name)
		return nil
	case err != nil:
		return err
	}
	got := info.Config
	next := repaired(want, got)
	if p.cfg.Replicas > 0 {
		next.Replicas = p.cfg.Replicas
	}
	if want.Name == streamName(p.cfg.Prefix, streamCalls) {
		if err := keepCalls(got, &next); err != nil {
			return err
		}
	}
	if isLog {
		if err := p.oldLog(ctx, got, &next); err != nil {
			return err
		}
	}
	if len(compareStream(want, got)) == 0 && next.MaxBytes == got.MaxBytes && next.Replicas == got.Replicas &&
		maps.Equal(next.Metadata, got.Metadata) {
		p.report.Unchanged = append(p.report.Unchanged, want.Name)
		return nil
	}
	updated, err := p.js.UpdateStream(ctx, next)
	if err != nil {
		// What can't be changed in place (storage, retention, …) is named.
		return errors.Join(append(compareStream(want, got), readError(err))...)
	}
	if err := errors.Join(compareStream(want, updated.CachedInfo().Config)...); err != nil {
		return err
	}
	p.report.Updated = append(p.report.Updated, want.Name)
	return nil
}

// repaired is the live configuration with everything that promises hang on put right; the rest stays as it is.
func repaired(want, got jetstream.StreamConfig) jetstream.StreamConfig {
	next := want
	next.Description, next.MaxBytes, next.Replicas = got.Description, got.MaxBytes, got.Replicas
	next.Placement, next.Compression, next.Duplicates = got.Placement, got.Compression, got.Duplicates
	next.Metadata, next.MaxConsumers, next.FirstSeq = maps.Clone(got.Metadata), got.MaxConsumers, got.FirstSeq
	next.MirrorDirect, next.Template = got.MirrorDirect, got.Template
	next.DenyPurge = want.DenyPurge || got.DenyPurge // can't be taken back
	return next
}

// keepCalls leaves to the records of calls what their operator chose, and says what can't be changed in place.
func keepCalls(got jetstream.StreamConfig, next *jetstream.StreamConfig) error {
	next.Discard, next.PersistMode = got.Discard, got.PersistMode
	if next.Replicas > 1 && got.PersistMode == jetstream.AsyncPersistMode {
		return fmt.Errorf("a stream made for one server can't be replicated: its records of calls only explain, so delete it (nats stream rm %s) and provision again", got.Name)
	}
	return nil
}

// newLog completes the configuration of a LOG that is about to be made.
func (p *provisioner) newLog(ctx context.Context, want *jetstream.StreamConfig) error {
	env := p.cfg.Env
	if env == "" {
		env = randomEnv()
	}
	want.Metadata = map[string]string{metadataEnv: env}
	p.report.Env = env
	room, err := p.room(ctx, *want)
	if err != nil {
		return err
	}
	want.MaxBytes, p.report.MaxBytes = room, room
	return nil
}

// oldLog keeps the name and the size of a LOG that exists.
func (p *provisioner) oldLog(ctx context.Context, got jetstream.StreamConfig, next *jetstream.StreamConfig) error {
	env := got.Metadata[metadataEnv]
	if env == "" { // somebody took it away; without PAYKIT_ENV objects made before would no longer be ours
		if p.cfg.Env == "" {
			return fmt.Errorf("the stream's metadata lack %s, the environment's name: set PAYKIT_ENV to what it was", metadataEnv)
		}
		env = p.cfg.Env
		if next.Metadata == nil {
			next.Metadata = map[string]string{}
		}
		next.Metadata[metadataEnv] = env
	}
	if err := checkEnv(p.cfg, env); err != nil {
		return err
	}
	p.report.Env = env
	switch {
	case p.cfg.MaxBytes > 0:
		next.MaxBytes = p.cfg.MaxBytes
	case got.MaxBytes <= 0:
		room, err := p.room(ctx, *next)
		if err != nil {
			return err
		}
		next.MaxBytes = room
	}
	p.report.MaxBytes = next.MaxBytes
	return nil
}

// randomEnv is 80 random bits in lower-case letters and digits.
func randomEnv() string {
	var b [10]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return "env_" + strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
}

const (
	roomMost  = 1 << 50 // 1 PiB: more than any server gives
	roomLeast = 1 << 20
)

// room is how large the LOG is made: what was asked for, or 80 % of what the server still has to give.
//
// An account with a limit knows what is left of it; one without shares the server's, which only an administrator of the
// whole server may ask for. But a reservation over it is refused, so a stream without messages finds it by halving.
func (p *provisioner) room(ctx context.Context, want jetstream.StreamConfig) (int64, error) {
	if p.cfg.MaxBytes > 0 {
		return p.cfg.MaxBytes, nil
	}
	probe := jetstream.StreamConfig{
		Name: want.Name + "_PROBE", Subjects: []string{p.cfg.Prefix + ".probe"}, Storage: want.Storage,
		Replicas: want.Replicas, Discard: jetstream.DiscardNew, MaxBytes: roomLeast,
	}
	if _, err := p.js.CreateOrUpdateStream(ctx, probe); err != nil {
		return 0, readError(err)
	}
	fits, refused := int64(roomLeast), int64(roomMost)
	var err error
	for refused-fits > max(fits/64, roomLeast) && err == nil {
		middle := fits + (refused-fits)/2
		if refused > 4*fits { // far off: go by powers
			middle = fits * 4
		}
		probe.MaxBytes = middle
		_, err = p.js.UpdateStream(ctx, probe)
		switch {
		case err == nil:
			fits = middle
		case isRefusal(err):
			refused, err = middle, nil
		}
	}
	if deleted := p.js.DeleteStream(ctx, probe.Name); deleted != nil && err == nil {
		err = deleted
	}
	return fits / 10 * 8, readError(err)
}

func isRefusal(err error) bool {
	_, ok := errors.AsType[*jetstream.APIError](err)
	return ok
}

func (p *provisioner) consumer(ctx context.Context, want consumerConfig) error {
	name := want.stream + " consumer " + want.Durable
	info, err := consumerInfo(ctx, p.js, want.stream, want.Durable)
	switch {
	case errors.Is(err, ErrNotProvisioned):
		if p.restored != nil && want.stream != streamName(p.cfg.Prefix, streamCommands) { // whose done messages are gone
			if floor := p.restored.floors[want.stream+" "+want.Durable]; floor > 0 {
				startAt(&want.ConsumerConfig, floor)
			}
		}
		if _, err := p.js.CreateConsumer(ctx, want.stream, want.ConsumerConfig); err != nil {
			return readError(err)
		}
		p.report.Created = append(p.report.Created, name)
		return nil
	case err != nil:
		return err
	}
	weak := compareConsumer(want, info.Config)
	if len(weak) == 0 {
		p.report.Unchanged = append(p.report.Unchanged, name)
		return nil
	}
	want.Replicas = info.Config.Replicas
	if restoredAt(info.Config) { // where it began can't be changed
		startAt(&want.ConsumerConfig, info.Config.OptStartSeq-1)
	}
	updated, err := p.js.UpdateConsumer(ctx, want.stream, want.ConsumerConfig)
	if err != nil {
		return errors.Join(append(weak, readError(err))...)
	}
	if err := errors.Join(compareConsumer(want, updated.CachedInfo().Config)...); err != nil {
		return err
	}
	p.report.Updated = append(p.report.Updated, name)
	return nil
}

// rebuildLinks walks the LOG and puts back the links that are missing. How far the last run came, and how many links
// there were then, stands in the metadata of LINKS, so that a large log is not read at every start; a LINKS made anew, or
// restored from a backup, says less or nothing, and one that lost links (they are never deleted) has fewer. A crash in the
// middle leaves the mark where it was, and the next run begins there.
func (p *provisioner) rebuildLinks(ctx context.Context, l *Log) (int, error) {
	info, err := streamInfo(ctx, p.js, l.stream(streamLinks))
	if err != nil {
		return 0, err
	}
	state, err := l.Info(ctx)
	if err != nil {
		return 0, err
	}
	mark := linksMark(info, state.LastSequence)
	n := 0
	seen := map[string]struct{}{} // of the links at hand: a charge's events are seldom far apart
	for _, entity := range []events.Entity{events.EntityProviderAccount, events.EntityCharge, events.EntityPaymentMethod} {
		err := l.walk(ctx, l.stream(streamLog), l.subject("log", string(entity), "*", "*", "*"), mark+1, func(m stored) (bool, error) {
			e, err := l.entry(m)
			if err != nil {
				return false, err
			}
			provider, object, k := linkOf(e.Event)
			name := provider + " " + object
			if _, done := seen[name]; done || provider == "" || object == "" {
				return true, nil
			}
			_, err = l.Link(ctx, provider, object)
			if missing := errors.Is(err, ErrNotFound); missing {
				if stands, err := l.stillCard(ctx, e.Event); err != nil || !stands {
					return err == nil, err // a later method may be the card's
				}
			} else if err != nil {
				return false, err
			}
			if len(seen) >= seenLinks {
				clear(seen)
			}
			seen[name] = struct{}{}
			if err == nil {
				return true, nil
			}
			if err := l.PutLink(ctx, provider, object, k); err != nil {
				return false, err
			}
			n++
			return true, nil
		})
		if err != nil {
			return n, err
		}
	}
	if info, err = streamInfo(ctx, p.js, l.stream(streamLinks)); err != nil {
		return n, err
	}
	if mark == state.LastSequence {
		return n, nil
	}
	config := info.Config
	config.Metadata = maps.Clone(config.Metadata)
	if config.Metadata == nil {
		config.Metadata = map[string]string{}
	}
	config.Metadata[metadataLinks] = fmt.Sprintf(linksMarkFormat, state.LastSequence, info.State.Msgs)
	_, err = p.js.UpdateStream(ctx, config)
	return n, readError(err)
}

// stillCard tells whether the method of an event is live and the card that it was then; of other entities there is nothing
// to ask.
func (l *Log) stillCard(ctx context.Context, ev *events.Event) (bool, error) {
	m := ev.Data.PaymentMethod
	if m == nil {
		return true, nil
	}
	now, err := l.LoadFromLeader(ctx, events.EntityPaymentMethod, m.ID)
	if err != nil {
		return false, err
	}
	s := now.Event.Data.PaymentMethod
	return s.Live() && s.Fingerprint == m.Fingerprint, nil
}

// seenLinks bounds what a rebuild remembers.
const seenLinks = 100_000

// linksMarkFormat is a sequence of the LOG and the number of links at that time. Another kind of link is another format: an
// older mark says nothing of it.
const linksMarkFormat = "%d with %d links, cards too"

// linksMark tells up to where the LOG's links are all there, 0 if that is not known.
func linksMark(info *jetstream.StreamInfo, last uint64) uint64 {
	var mark, links uint64
	_, err := fmt.Sscanf(info.Config.Metadata[metadataLinks], linksMarkFormat, &mark, &links)
	if err != nil || mark > last || info.State.Msgs < links {
		return 0
	}
	return mark
}

// linkOf is the link that an event implies: provider customer to customer, payment (else charge) to charge, a live method's
// card to the method. provider or object is "" if it implies none.
func linkOf(ev *events.Event) (provider, object string, k Link) {
	switch {
	case ev.Type == events.ProviderAccountLinked:
		s := ev.Data.ProviderAccount
		return s.ProviderID, s.ProviderCustomerID, Link{Entity: events.EntityCustomer, ID: s.CustomerID, CustomerID: s.CustomerID}
	case ev.Data.Charge != nil:
		s := ev.Data.Charge
		object = s.ProviderPaymentID
		if object == "" {
			object = s.ProviderChargeID
		}
		return s.ProviderID, object, Link{Entity: events.EntityCharge, ID: s.ID, CustomerID: s.CustomerID}
	case ev.Data.PaymentMethod != nil:
		s := ev.Data.PaymentMethod
		if s.Live() && s.Fingerprint != "" {
			object = CardObject(s.CustomerID, s.Fingerprint)
		}
		return s.ProviderID, object, Link{Entity: events.EntityPaymentMethod, ID: s.ID, CustomerID: s.CustomerID}
	}
	return "", "", Link{}
}
