package projections

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"go.etcd.io/bbolt"
	"golang.org/x/sync/errgroup"

	"github.com/paykit-go/paykit/internal/crashpoint"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// Config is what a projector can be given.
type Config struct {
	Logger zerolog.Logger
	Now    func() time.Time // for the names of files put aside; nil = time.Now

	Registerer prometheus.Registerer // takes the metrics; nil = none

	// Shadow has it keep views of its own beside the live ones and answer no queries: those of a program that folds differently.
	Shadow bool
}

// gatherFor is how long an event waits for those behind it before it is visible, unless somebody asks for it.
const gatherFor = 10 * time.Millisecond

// Projector keeps the views of one data directory up to date and answers queries from them.
type Projector struct {
	path     string
	log      *eventlog.Log
	logger   zerolog.Logger
	now      func() time.Time
	progress *progress
	store    atomic.Pointer[store] // replaced when a file is put aside, and when a rebuilt one takes its place
	applying sync.Mutex            // held while events are taken in
	past     *pastMetrics
	metrics  *metrics
	shadow   bool

	walkLimit int64         // see the constant
	walkEvery time.Duration // how often the file is read through
}

// walkEvery is how often a file in use is read through: what rots in rows that nobody reads would come up when it is needed.
const walkEvery = 6 * time.Hour

// metrics are of the views' file.
type metrics struct{ handovers *prometheus.CounterVec }

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{handovers: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "paykit_views_handovers_total",
		Help: "Rebuilt views that were to take the live ones' place, by result: equal, differs (a bug or damage: look at the file kept aside), refused.",
	}, []string{"result"})}
	if r != nil {
		r.MustRegister(m.handovers)
	}
	return m
}

// Open opens or creates the views in dir. A file that can't be used is put aside under another name and a new one
// begun. It returns [ErrLocked] if another process holds the file.
func Open(dir string, log *eventlog.Log, cfg Config) (*Projector, error) {
	p := &Projector{
		path: filepath.Join(dir, FileName), log: log, logger: cfg.Logger, now: cfg.Now, progress: newProgress(),
		past: newPastMetrics(cfg.Registerer), metrics: newMetrics(cfg.Registerer), shadow: cfg.Shadow,
		walkLimit: walkLimit, walkEvery: walkEvery,
	}
	if p.shadow {
		p.path = filepath.Join(dir, shadowName)
	}
	if p.now == nil {
		p.now = time.Now
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the views: %w", err)
	}
	if err := p.forgetWishes(); err != nil {
		return nil, fmt.Errorf("open the views: %w", err)
	}
	s, err := openStore(p.path, storeOptions{walk: p.walkLimit})
	why := unfit(err)
	if err != nil && why == nil {
		return nil, err
	}
	if err == nil {
		p.store.Store(s)
		at, _, err := s.checkpoint()
		if err != nil || at > 0 {
			return p, err
		}
	}
	if !p.shadow {
		n, err := p.adoptNext(why)
		if err != nil {
			return nil, err
		}
		if n != nil {
			p.store.Store(n)
			if s != nil { // the new one that it took the place of
				err = s.close()
			}
			return p, err
		}
	}
	if why != nil {
		return p, p.restart(why)
	}
	return p, nil
}

// replace closes a file that can't be used, puts it aside and begins a new one. It answers false if the damage that was found
// was in another file than the one in use: a rebuilt one took its place meanwhile.
func (p *Projector) replace(why *unfitError) (bool, error) {
	s := p.store.Load()
	if why.Reason == "damaged" && !s.broken.Load() {
		p.logger.Warn().Err(why).Msg("the views that were damaged are replaced already")
		return false, nil
	}
	if err := s.close(); err != nil {
		return true, err
	}
	return true, p.restart(why)
}

// restart puts the file aside and begins a new one.
func (p *Projector) restart(why *unfitError) error {
	aside, err := setAside(p.path, why.Reason, p.now())
	if err != nil {
		return err
	}
	p.logger.Warn().Err(why).Str("aside", aside).Msg("views put aside, rebuilding")
	s, err := openStore(p.path, storeOptions{})
	if err != nil {
		return fmt.Errorf("open new views: %w", err)
	}
	p.store.Store(s)
	p.progress.change(func(g *progress) { g.sequence = 0 })
	return nil
}

// Run follows the LOG and answers queries until ctx ends, then returns nil. It answers nothing before the views have
// once caught up, so that no half-built view says "not found". It returns a [*eventlog.GapError], a [*VersionError],
// [events.ErrUnknownType] or [events.ErrMalformed] when the LOG holds what it must not skip. It is called once.
func (p *Projector) Run(ctx context.Context) error {
	restarted := false
	for {
		err := p.run(ctx)
		if ctx.Err() != nil {
			err = nil
		}
		if errors.Is(err, errGiven) {
			err = p.give()
			p.progress.change(func(g *progress) { g.running, g.err = false, errors.Join(errGiven, err) })
			return err
		}
		why := unfit(err)
		if why == nil || restarted && why.Reason == "damaged" && p.store.Load().broken.Load() {
			// A new file that is damaged too is no fault of the file's.
			p.progress.change(func(g *progress) { g.running, g.err = false, err })
			return err
		}
		p.progress.change(func(g *progress) { g.running = false })
		replaced, err := p.replace(why)
		if err != nil {
			p.progress.change(func(g *progress) { g.err = err })
			return err
		}
		restarted = restarted || replaced
	}
}

// unfit tells whether an error means that the file is to be put aside; nil if not.
func unfit(err error) *unfitError {
	if why, ok := errors.AsType[*unfitError](err); ok {
		return why
	}
	if errors.Is(err, errDamaged) {
		return &unfitError{Reason: "damaged", Err: err}
	}
	return nil
}

// run does what Run does with one file.
func (p *Projector) run(ctx context.Context) error {
	s := p.store.Load()
	info, err := p.log.Info(ctx)
	if err != nil {
		return fmt.Errorf("projector: %w", err)
	}
	if err := s.belong(identity(p.log, info), info.LastSequence); err != nil {
		return err
	}
	at, err := p.resume(ctx, s)
	if err != nil {
		return err
	}
	p.progress.change(func(g *progress) { g.sequence, g.target = at, info.LastSequence })
	p.logger.Info().Uint64("stream_seq", at).Uint64("last_seq", info.LastSequence).Msg("projector started")

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		// A commit is two fsyncs, on the disk that the LOG stands on: events that come together share one, unless somebody waits.
		gathering := eventlog.Gathering{For: gatherFor, Awaited: p.progress.awaited, Hurry: p.progress.hurry}
		if err := p.log.FollowGathering(ctx, at+1, gathering, func(b eventlog.Batch) error { return p.apply(b) }); err != nil {
			return fmt.Errorf("follow the log: %w", err)
		}
		return nil
	})
	damaged := make(chan error, 1)
	g.Go(func() error {
		select {
		case err := <-damaged:
			return err
		case <-ctx.Done():
			return nil
		}
	})
	g.Go(func() error {
		if err := p.progress.caughtUp(ctx); err != nil {
			return nil //nolint:nilerr // the run ends, its reason is another's
		}
		if p.shadow {
			p.progress.change(func(g *progress) { g.running = true })
			p.logger.Info().Msg("the shadow's views are up to date")
			return nil
		}
		return p.serve(ctx, damaged)
	})
	g.Go(func() error { return p.watchFolder(ctx) })
	g.Go(func() error { return p.walkNowAndThen(ctx, s.walked) })
	return g.Wait()
}

// resume tells behind which sequence the views go on. The event there must be the one that they took in: a LOG that was
// restored from a backup and went on differently is another one, though it has the name and the age of the first.
func (p *Projector) resume(ctx context.Context, s *store) (uint64, error) {
	at, digest, err := s.checkpoint()
	if err != nil || at == 0 {
		return at, err
	}
	e, err := p.log.Read(ctx, at)
	switch {
	case errors.Is(err, eventlog.ErrNotFound):
		p.logger.Error().Uint64("stream_seq", at).Msg("the event that the views are at is missing in the log")
	case err != nil:
		return 0, fmt.Errorf("projector: the event that the views are at: %w", err)
	case e.Event.Digest() != digest:
		return 0, &unfitError{Reason: "other-log", Err: fmt.Errorf("the event at sequence %d is not the one that they hold", at)}
	}
	s.reached.Store(at)
	return at, nil
}

// serve answers queries from a file that has caught up.
func (p *Projector) serve(ctx context.Context, damaged chan<- error) error {
	past := newPast(filepath.Dir(p.path), p.log, p.logger, p.past)
	ctx, cancel := context.WithCancel(ctx)
	var building sync.WaitGroup
	building.Go(func() { past.run(ctx) })
	defer func() {
		cancel()
		building.Wait()
		past.end()
	}()
	service := &service{
		log: p.log, logger: p.logger, applied: p.progress, past: past,
		damaged: func(err error) {
			select {
			case damaged <- err:
			default: // told already
			}
		},
		ready: func() {
			p.progress.change(func(g *progress) { g.running = true })
			p.logger.Info().Msg("views are up to date, queries are answered")
		},
	}
	return service.serve(ctx, &queries{store: current{p}, log: p.log, budget: listBudget(p.log.Conn().MaxPayload())})
}

// apply folds a batch into the views.
func (p *Projector) apply(b eventlog.Batch) error {
	if len(b.Entries) == 0 {
		return nil
	}
	p.applying.Lock()
	defer p.applying.Unlock()
	s := p.store.Load()
	// Rows and checkpoint are one commit. A crash before it leaves the views as they were, and the next start reads this
	// batch again; a crash after it leaves them with the whole batch, and the next start goes on behind it.
	crashpoint.Hit("projector.fetched")
	if err := s.apply(b.Entries); err != nil {
		return err
	}
	crashpoint.Hit("projector.tx_committed")
	at := b.Entries[len(b.Entries)-1].Sequence
	p.progress.change(func(g *progress) { g.sequence = max(g.sequence, at) })
	return nil
}

// apply folds events into the views and moves the checkpoint, in one transaction.
func (s *store) apply(entries []eventlog.Entry) error {
	at := uint64(0)
	err := s.update(func(tx *bbolt.Tx) error {
		f := newFold(tx)
		if err := f.take(entries); err != nil {
			return err
		}
		at = f.at
		return f.flush()
	})
	if err == nil {
		s.reached.Store(at)
	}
	return err
}

// walkNowAndThen reads the file through while it is in use: at once if it was too large to be read through before.
func (p *Projector) walkNowAndThen(ctx context.Context, walked bool) error {
	wait := p.walkEvery
	if !walked {
		wait = 0
	}
	for {
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		}
		s := p.store.Load()
		err := s.walk(ctx)
		if errors.Is(err, errDamaged) && p.store.Load() == s {
			return err
		}
		if err != nil && ctx.Err() == nil {
			p.logger.Warn().Err(err).Msg("the views' file was not read through")
		}
		wait = p.walkEvery
	}
}

// Ready is nil while queries are answered; else it says why they are not.
func (p *Projector) Ready() error {
	p.progress.mu.Lock()
	defer p.progress.mu.Unlock()
	switch {
	case p.progress.err != nil:
		return fmt.Errorf("projector stopped: %w", p.progress.err)
	case p.progress.running:
		return nil
	case p.progress.sequence < p.progress.target:
		return fmt.Errorf("rebuilding the views: at sequence %d of %d", p.progress.sequence, p.progress.target)
	}
	return errors.New("not running")
}

// Sequence is the sequence that the views are at.
func (p *Projector) Sequence() uint64 {
	at, _, _ := p.progress.look()
	return at
}

// Digest walks all views, about a gigabyte a second, and answers their digest, sequence and numbers of rows.
func (p *Projector) Digest(ctx context.Context) (Result, error) { return p.store.Load().digest(ctx) }

// Close closes the file. Run must have returned, or never been called.
func (p *Projector) Close() error { return p.store.Load().close() }
