package projections

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"go.etcd.io/bbolt"
	"golang.org/x/sync/errgroup"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// Views of the past have files of their own beside the live one, which are removed when nobody asks for them any more,
// when the projector ends, and, after a crash, when it starts.
const (
	pastPrefix  = "views.at-"
	pastMost    = 4                // at once: each takes as much of the disk as the live views had then
	pastIdle    = 10 * time.Minute // without a query, until one is removed
	pastLook    = time.Minute      // how often is looked for those
	pastPattern = pastPrefix + "*.db"
)

// pastMetrics outlives the services of one projector.
type pastMetrics struct {
	open   prometheus.Gauge
	builds *prometheus.CounterVec // by result
}

func newPastMetrics(r prometheus.Registerer) *pastMetrics {
	m := &pastMetrics{
		open: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "paykit_past_views_open", Help: "Views of earlier sequences that are kept or being built.",
		}),
		builds: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "paykit_past_views_builds_total", Help: "Views of earlier sequences that were built, by result.",
		}, []string{"result"}),
	}
	if r != nil {
		r.MustRegister(m.open, m.builds)
	}
	return m
}

// past keeps views as a projector at earlier sequences had them. One at a time is built.
type past struct {
	dir     string
	log     *eventlog.Log
	logger  zerolog.Logger
	metrics *pastMetrics
	now     func() time.Time
	budget  int           // of a list's items, bytes
	most    int           // kept and being built at once
	idle    time.Duration // until one that nobody asks for is removed

	wanted chan *pastView // has room for all that there may be

	mu    sync.Mutex
	views map[uint64]*pastView // by sequence; guarded by mu
}

// pastView is the views at one sequence.
type pastView struct {
	sequence uint64
	path     string
	ready    chan struct{} // closed when it is built, or has failed
	// Set before ready is closed:
	err     error
	store   *store
	answers map[string]func(context.Context, query) (answer, error) // by verb

	users int       // queries and copies under way; guarded by past.mu
	used  time.Time // guarded by past.mu
	gone  bool      // it was taken out, the last user closes it; guarded by past.mu
}

// newPast removes what an earlier process left.
func newPast(dir string, log *eventlog.Log, logger zerolog.Logger, metrics *pastMetrics) *past {
	p := &past{
		dir: dir, log: log, logger: logger, metrics: metrics, now: time.Now, budget: listBudget(log.Conn().MaxPayload()),
		most: pastMost, idle: pastIdle, wanted: make(chan *pastView, pastMost), views: map[uint64]*pastView{},
	}
	p.sweep()
	return p
}

// sweep removes all files of views of the past.
func (p *past) sweep() {
	left, err := filepath.Glob(filepath.Join(p.dir, pastPattern))
	for _, path := range left {
		err = errors.Join(err, os.Remove(path))
	}
	if err != nil {
		p.logger.Warn().Err(err).Msg("views of the past not removed")
	}
}

// run builds what is asked for and lets go of what is not asked for any more, until ctx ends.
func (p *past) run(ctx context.Context) {
	var g errgroup.Group
	g.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case v := <-p.wanted:
				p.finish(ctx, v)
			}
		}
	})
	g.Go(func() error {
		tick := time.NewTicker(min(p.idle, pastLook))
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
				p.letGoOfIdle()
			}
		}
	})
	_ = g.Wait() // neither fails
}

// end closes and removes everything. run has returned, and nobody asks any more.
func (p *past) end() {
	p.mu.Lock()
	for _, v := range p.views {
		p.takeOut(v)
	}
	p.mu.Unlock()
	p.sweep()
}

// view answers the views at a sequence and keeps them until release is called. If they are not there they are built, in
// the background: when ctx ends before they are, the answer is the refusal "timeout", and the next query finds them further.
func (p *past) view(ctx context.Context, sequence uint64) (v *pastView, release func(), err error) {
	p.mu.Lock()
	v = p.views[sequence]
	if v == nil {
		if !p.room() {
			p.mu.Unlock()
			return nil, nil, &events.Error{
				Code: events.CodeOverloaded, Param: headerAt,
				Message: strconv.Itoa(p.most) + " other views of the past are being built; try again later",
			}
		}
		v = &pastView{
			sequence: sequence, ready: make(chan struct{}),
			path: filepath.Join(p.dir, pastPrefix+strconv.FormatUint(sequence, 10)+".db"),
		}
		p.views[sequence] = v
		p.metrics.open.Set(float64(len(p.views)))
		p.wanted <- v // never blocks: it has room for all
	}
	v.users++
	v.used = p.now()
	p.mu.Unlock()
	select {
	case <-v.ready:
	case <-ctx.Done():
		p.release(v)
		return nil, nil, &events.Error{
			Code: events.CodeTimeout, Param: headerAt,
			Message: "the views at sequence " + strconv.FormatUint(sequence, 10) + " are being built; ask again in a moment",
		}
	}
	if v.err != nil {
		p.release(v)
		return nil, nil, v.err
	}
	return v, func() { p.release(v) }, nil
}

// room makes place for one more: the one that was not used for longest goes. False says that all are being built. Called
// with mu held.
func (p *past) room() bool {
	if len(p.views) < p.most {
		return true
	}
	var oldest *pastView
	for _, v := range p.views {
		if v.built() && (oldest == nil || v.used.Before(oldest.used)) {
			oldest = v
		}
	}
	if oldest == nil {
		return false
	}
	p.takeOut(oldest)
	return true
}

func (v *pastView) built() bool {
	select {
	case <-v.ready:
		return true
	default:
		return false
	}
}

// takeOut forgets a view and removes its file; who still reads it can. Called with mu held.
func (p *past) takeOut(v *pastView) {
	if v.gone {
		return
	}
	v.gone = true
	delete(p.views, v.sequence)
	p.metrics.open.Set(float64(len(p.views)))
	if v.store == nil {
		return
	}
	// A crash before it leaves the file, which the next start removes.
	if err := os.Remove(v.path); err != nil {
		p.logger.Warn().Err(err).Msg("views of the past not removed")
	}
	if v.users == 0 {
		p.close(v)
	}
}

func (p *past) close(v *pastView) {
	if err := v.store.close(); err != nil {
		p.logger.Warn().Err(err).Msg("views of the past not closed")
	}
}

func (p *past) release(v *pastView) {
	p.mu.Lock()
	defer p.mu.Unlock()
	v.users--
	v.used = p.now()
	if v.gone && v.users == 0 && v.store != nil {
		p.close(v)
	}
}

// discard forgets a view that was found damaged: the next query builds it anew.
func (p *past) discard(v *pastView) {
	p.logger.Warn().Uint64("stream_seq", v.sequence).Msg("views of the past are damaged")
	p.mu.Lock()
	defer p.mu.Unlock()
	p.takeOut(v)
}

func (p *past) letGoOfIdle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, v := range p.views {
		if v.built() && v.users == 0 && p.now().Sub(v.used) > p.idle {
			p.takeOut(v)
		}
	}
}

// finish builds a view and tells those who wait for it.
func (p *past) finish(ctx context.Context, v *pastView) {
	began := time.Now()
	s, err := p.build(ctx, v)
	result := "built"
	if err != nil {
		result = "failed"
	}
	p.metrics.builds.WithLabelValues(result).Inc()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		v.err = fmt.Errorf("build the views at sequence %d: %w", v.sequence, err)
		p.takeOut(v)
	} else {
		p.logger.Info().Uint64("stream_seq", v.sequence).Int64("dur_ms", time.Since(began).Milliseconds()).Msg("views of the past built")
		v.store, v.answers = s, map[string]func(context.Context, query) (answer, error){}
		q := &queries{store: s, log: p.log, budget: p.budget, past: true}
		for _, e := range q.endpoints() {
			v.answers[e.verb] = e.answer
		}
	}
	close(v.ready)
}

// build makes the file, from the nearest earlier view that is kept or from the first event. A crash leaves a file that the
// next start removes.
func (p *past) build(ctx context.Context, v *pastView) (_ *store, err error) {
	if err := p.copyNearest(v); err != nil {
		p.logger.Warn().Err(err).Msg("views of the past built from the first event")
		if err := os.Remove(v.path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	s, err := openStore(v.path, storeOptions{noSync: true})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close(), os.Remove(v.path))
		}
	}()
	if err := s.fill(ctx, p.log, v.sequence, nil); err != nil {
		return nil, err
	}
	at, _, err := s.checkpoint()
	if err == nil && at != v.sequence {
		err = &eventlog.GapError{Want: v.sequence, Got: at}
	}
	s.reached.Store(at)
	return s, err
}

// copyNearest copies the kept view that is nearest before the wanted one, if there is any.
func (p *past) copyNearest(v *pastView) error {
	p.mu.Lock()
	var base *pastView
	for _, other := range p.views {
		if other.built() && other.sequence < v.sequence && (base == nil || other.sequence > base.sequence) {
			base = other
		}
	}
	if base != nil {
		base.users++
	}
	p.mu.Unlock()
	if base == nil {
		return nil
	}
	defer func() { // it was not asked for, so it counts as unused as before
		p.mu.Lock()
		defer p.mu.Unlock()
		if base.users--; base.gone && base.users == 0 {
			p.close(base)
		}
	}()
	return base.store.view(func(tx *bbolt.Tx) error { return tx.CopyFile(v.path, 0o600) })
}
