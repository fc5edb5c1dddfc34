package projections

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rs/zerolog"
	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"github.com/paykit-go/paykit/internal/crashpoint"
	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// A finished file is handed to a running projector under nextName in its folder. The folder is all that the two share: a
// projector looks into it four times a second, so no query and no right on the server is needed, and a file that nobody took
// is found by the next start. What became of it the projector says in swappedName, before it takes the file.
const (
	nextName    = FileName + ".next"
	swappedName = FileName + ".swapped"

	folderLook   = 250 * time.Millisecond
	handoverWait = 30 * time.Second
	triedWait    = time.Minute // at most between two tries to take one file over
)

// The ends of a handover.
const (
	HandoverReplaced = "replaced" // nobody held the live file: the new one is in its place
	HandoverTaken    = "taken"    // a running projector answers from the new file
	HandoverRefused  = "refused"  // a projector found that the file does not fit, and put it aside
	HandoverLeft     = "left"     // a process that holds the live file did not take it: the next start will
)

// Handover says what became of a file that was to take the live one's place. The digests are of the old and the new views at
// one sequence; "" = not compared, because there were no old views, or none of this log.
type Handover struct {
	Outcome   string `json:"outcome"`
	Reason    string `json:"reason,omitempty"` // why it was refused
	Sequence  uint64 `json:"sequence,omitempty"`
	OldDigest string `json:"oldDigest,omitempty"`
	NewDigest string `json:"newDigest,omitempty"`
	Differs   bool   `json:"differs"`
	Aside     string `json:"aside,omitempty"` // where the old file is, if they differ, or the refused one
}

// handOver puts an open file into the live file's place, or has the projector do it that holds that, for at most wait.
func handOver(ctx context.Context, log *eventlog.Log, dir string, s *store, wait time.Duration) (*Handover, error) {
	if wait == 0 {
		wait = handoverWait
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	// Its lock is let go of under the new name: nobody takes it for an unfinished one.
	if err := errors.Join(makeNext(dir, s.path), s.close()); err != nil {
		return nil, err
	}
	return awaitHandover(ctx, log, dir)
}

// makeNext gives a file the name that projectors look for.
func makeNext(dir, from string) error {
	if err := os.Remove(filepath.Join(dir, swappedName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	// A crash before this leaves the file under its own name, for the next try; after it a projector takes it, now or when it
	// starts.
	if err := os.Rename(from, filepath.Join(dir, nextName)); err != nil {
		return err
	}
	crashpoint.Hit("projector.next_ready")
	return syncDir(dir)
}

// awaitHandover waits until the next file was taken, or takes it once nobody holds the live one.
func awaitHandover(ctx context.Context, log *eventlog.Log, dir string) (*Handover, error) {
	tick := time.NewTicker(folderLook)
	defer tick.Stop()
	for {
		if _, err := os.Lstat(filepath.Join(dir, nextName)); errors.Is(err, os.ErrNotExist) {
			return readSwapped(dir)
		}
		h, err := replace(ctx, log, dir)
		if err == nil || !errors.Is(err, ErrLocked) {
			return h, err
		}
		select {
		case <-ctx.Done():
			return &Handover{Outcome: HandoverLeft}, nil
		case <-tick.C:
		}
	}
}

// readSwapped reads what the projector said.
func readSwapped(dir string) (*Handover, error) {
	path := filepath.Join(dir, swappedName)
	b, err := os.ReadFile(path) //nolint:gosec // G304: the operator's own data directory
	if errors.Is(err, os.ErrNotExist) {
		return nil, errUnknown
	}
	if err != nil {
		return nil, err
	}
	h := &Handover{}
	if err := json.Unmarshal(b, h); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return h, os.Remove(path)
}

// errUnknown is the end of a handover that nobody told of, or told somebody else of.
var errUnknown = errors.New("the rebuilt file is not in its place any more, and what became of it is not known: another paykit rebuild read that, " +
	"or the file was removed; the projector's log says whether it was taken over or refused")

// writeSwapped says what becomes of the next file, before it is taken from its place. A crash after it leaves that file and an
// answer that nobody reads: who hands the next one over removes it.
func writeSwapped(dir string, h *Handover) error {
	b, err := json.Marshal(h)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, swappedName)
	if err := os.WriteFile(path+"-", b, 0o600); err != nil { // who sees it under its name sees all of it
		return err
	}
	return os.Rename(path+"-", path)
}

// replace puts the next file in the live one's place. It returns [ErrLocked] if a process holds that: only who holds the live
// file replaces it.
func replace(ctx context.Context, log *eventlog.Log, dir string) (*Handover, error) {
	live, next := filepath.Join(dir, FileName), filepath.Join(dir, nextName)
	held, err := openStore(live, storeOptions{})
	if _, statErr := os.Lstat(next); errors.Is(statErr, os.ErrNotExist) { // it was taken while the lock was waited for
		if err == nil {
			err = held.close()
		}
		return nil, errors.Join(err, ErrLocked)
	}
	h := &Handover{Outcome: HandoverReplaced}
	switch why := unfit(err); {
	case err == nil:
		defer held.close() // of the file that was replaced: nothing is lost if it fails
		if h, err = compareFiles(ctx, log, held, next); err != nil {
			return nil, err
		}
	case why != nil:
		// Damaged, foreign: what the projector would put aside is kept here too.
		if _, err := setAside(live, why.Reason, time.Now()); err != nil {
			return nil, err
		}
	default:
		return nil, err
	}
	if h.Differs {
		if h.Aside, err = setAside(live, "differs", time.Now()); err != nil {
			return nil, err
		}
	}
	crashpoint.Hit("projector.before_swap")
	// A crash before this leaves the live file as it was, or none, and the next one, which the next start takes; after it the
	// new one is the live one.
	if err := os.Rename(next, live); err != nil {
		return nil, err
	}
	crashpoint.Hit("projector.after_swap")
	return h, syncDir(dir)
}

// compareFiles takes both files to where the new one is and compares them. Views of another log are not compared.
func compareFiles(ctx context.Context, log *eventlog.Log, held *store, next string) (h *Handover, err error) {
	h = &Handover{Outcome: HandoverReplaced}
	info, err := log.Info(ctx)
	if err != nil {
		return nil, err
	}
	at, _, err := held.checkpoint()
	if err != nil || at == 0 || held.fits(ctx, log, info) != nil {
		return h, nil // nothing to compare with: the new one is sound
	}
	n, err := openStore(next, storeOptions{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, n.close()) }()
	to, _, err := n.checkpoint()
	if err != nil {
		return nil, err
	}
	to = max(at, to)
	if err := errors.Join(held.fill(ctx, log, to, nil), n.fill(ctx, log, to, nil)); err != nil {
		return nil, err
	}
	return h, h.compare(ctx, held, n, func() {})
}

// compare walks both views, which are at one sequence. begun is called when both are looked at: from then on they may go on.
func (h *Handover) compare(ctx context.Context, old, next *store, begun func()) error {
	var g errgroup.Group
	looking := make(chan struct{}, 2)
	results := [2]Result{}
	for i, s := range []*store{old, next} {
		g.Go(func() error {
			told := false
			err := s.view(func(tx *bbolt.Tx) (err error) {
				looking <- struct{}{}
				told = true
				results[i], err = digest(tx, ctx.Err)
				return err
			})
			if !told {
				looking <- struct{}{}
			}
			if i == 0 && errors.Is(err, errDamaged) {
				return nil // the old one: it is being replaced
			}
			return err
		})
	}
	<-looking
	<-looking
	begun()
	if err := g.Wait(); err != nil {
		return err
	}
	h.Sequence, h.OldDigest, h.NewDigest = results[1].Sequence, results[0].Digest, results[1].Digest
	h.Differs = h.OldDigest != h.NewDigest
	return nil
}

// current is the store that queries are answered from. A rebuilt file takes its place while they are: those that read the old
// one finish on it, as closing it waits for them.
type current struct{ p *Projector }

func (l current) view(f func(*bbolt.Tx) error) error {
	for {
		s := l.p.store.Load()
		err := s.view(f)
		switch {
		case l.p.store.Load() == s:
			return err
		case errors.Is(err, errDamaged):
			// The old file's damage, and no reason to put the new one aside. f has begun: only its caller may begin again.
			return &events.Error{Code: events.CodeTimeout, Message: "the views that were read were damaged, and others have taken their place; ask again"}
		case !errors.Is(err, bbolterrors.ErrDatabaseNotOpen):
			return err
		}
	}
}

func (l current) digest(ctx context.Context) (r Result, err error) {
	err = l.view(func(tx *bbolt.Tx) error {
		r, err = digest(tx, ctx.Err)
		return err
	})
	return r, err
}

func (l current) has() uint64 { return l.p.store.Load().reached.Load() }

// has is a sequence that the views have.
func (s *store) has() uint64 { return s.reached.Load() }

// reader is what queries need of the views.
type reader interface {
	view(f func(*bbolt.Tx) error) error
	digest(ctx context.Context) (Result, error)
	has() uint64
}

// watchFolder looks into the data directory for what is wanted of this projector, until ctx ends.
func (p *Projector) watchFolder(ctx context.Context) error {
	tick := time.NewTicker(folderLook)
	defer tick.Stop()
	var tried attempts
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := p.copyIfWanted(); err != nil {
			p.logger.Warn().Err(err).Msg("the views could not be copied")
		}
		if p.shadow {
			if _, err := os.Lstat(p.path + giveSuffix); err == nil {
				return errGiven
			}
			continue
		}
		next, err := os.Lstat(filepath.Join(filepath.Dir(p.path), nextName))
		if err != nil {
			tried = attempts{}
			continue
		}
		if !tried.due(next, time.Now()) {
			continue
		}
		if err := p.takeNext(ctx); err != nil && ctx.Err() == nil {
			tried.failed(next, time.Now())
			p.logger.Warn().Err(err).Dur("again_in_ms", tried.wait).Msg("the rebuilt views could not be taken over yet")
		}
	}
}

// attempts are those to take one file over, each of which reads it through: they come seldomer and seldomer.
type attempts struct {
	file os.FileInfo
	wait time.Duration
	next time.Time
}

// due tells whether it is time to try a file.
func (a *attempts) due(file os.FileInfo, now time.Time) bool {
	return a.file == nil || !os.SameFile(a.file, file) || !now.Before(a.next)
}

func (a *attempts) failed(file os.FileInfo, now time.Time) {
	if a.file == nil || !os.SameFile(a.file, file) {
		a.wait = 0
	}
	a.file, a.wait = file, min(max(2*a.wait, folderLook), triedWait)
	a.next = now.Add(a.wait)
}

// takeNext takes a rebuilt file over, if it fits: it is brought to where the live views are, compared with them, brought on to
// where they are by then, and put in their place. Queries are answered all the while, and events taken in but for moments.
func (p *Projector) takeNext(ctx context.Context) error {
	dir := filepath.Dir(p.path)
	path := filepath.Join(dir, nextName)
	n, err := openStore(path, storeOptions{walk: walkAlways})
	if errors.Is(err, ErrLocked) {
		return nil // its maker has it still
	}
	if err == nil {
		var info eventlog.LogInfo
		if info, err = p.log.Info(ctx); err == nil {
			err = n.fits(ctx, p.log, info)
		}
	}
	if why := unfit(err); why != nil {
		var notClosed error
		if n != nil {
			notClosed = n.close()
		}
		return errors.Join(notClosed, p.refuseNext(path, why))
	}
	switch {
	case err == nil:
		return p.takeOpened(ctx, path, n)
	case n != nil:
		return errors.Join(err, n.close())
	}
	return err
}

// takeOpened takes a file over that fits, as far as was seen.
func (p *Projector) takeOpened(ctx context.Context, path string, n *store) error {
	err := n.fill(ctx, p.log, p.store.Load().has(), nil)
	crashpoint.Hit("projector.next_opened")
	h := &Handover{Outcome: HandoverTaken}
	if err == nil {
		err = p.compareNext(ctx, h, n)
	}
	var old *store
	if err == nil {
		old, err = p.swap(ctx, h, n)
	}
	switch {
	case old != nil: // it is done, whatever came after
	case n.broken.Load():
		// It was sound when it was read through. The lock is kept until this process ends: under this name nobody would get it.
		return p.refuseNext(path, &unfitError{Reason: "damaged", Err: err})
	default:
		return errors.Join(err, n.close())
	}
	p.metrics.handovers.WithLabelValues(map[bool]string{false: "equal", true: "differs"}[h.Differs]).Inc()
	level := zerolog.InfoLevel
	if h.Differs {
		level = zerolog.ErrorLevel
	}
	p.logger.WithLevel(level).Uint64("stream_seq", h.Sequence).Str("old_digest", h.OldDigest).Str("new_digest", h.NewDigest).Str("aside", h.Aside).
		Bool("differs", h.Differs).Msg("rebuilt views taken over")
	// Closing waits for the queries that read it.
	if err := errors.Join(err, old.close()); err != nil {
		p.logger.Warn().Err(err).Msg("the rebuilt views are in use, but a power cut may bring the old ones back, or the old file is not closed")
	}
	return nil
}

// refuseNext puts a file aside that does not fit.
func (p *Projector) refuseNext(path string, why *unfitError) error {
	aside := asideName(path, why.Reason, p.now())
	// If that fails it is aside all the same: of a file that was found damaged while it was open nobody gets the lock again.
	notTold := writeSwapped(filepath.Dir(path), &Handover{Outcome: HandoverRefused, Reason: why.Error(), Aside: aside})
	// A crash before this leaves the file in its place, and it is refused again; after it the file is aside, and that is told.
	if err := os.Rename(path, aside); err != nil {
		return fmt.Errorf("set %s aside: %w", path, err)
	}
	p.metrics.handovers.WithLabelValues("refused").Inc()
	p.logger.Error().Err(why).Str("aside", aside).Msg("rebuilt views refused")
	return errors.Join(notTold, syncDir(filepath.Dir(path)))
}

// compareNext compares the live views and the next ones at one sequence. No event is taken in until both are looked at.
func (p *Projector) compareNext(ctx context.Context, h *Handover, n *store) error {
	p.applying.Lock()
	held := true
	release := func() {
		if held {
			held = false
			p.applying.Unlock()
		}
	}
	defer release()
	old := p.store.Load()
	if err := n.fill(ctx, p.log, old.has(), nil); err != nil {
		return err
	}
	return h.compare(ctx, old, n, release)
}

// swap puts the next file in the live one's place and answers the old one, with an error too if a power cut may undo it.
func (p *Projector) swap(ctx context.Context, h *Handover, n *store) (old *store, err error) {
	dir := filepath.Dir(p.path)
	p.applying.Lock()
	defer p.applying.Unlock()
	old = p.store.Load()
	if err := n.fill(ctx, p.log, old.has(), nil); err != nil {
		return nil, err
	}
	if h.Differs {
		// A second name for the old file, which the rename takes the first of. A crash after it leaves both.
		h.Aside = asideName(p.path, "differs", p.now())
		if err := os.Link(p.path, h.Aside); err != nil {
			return nil, err
		}
	}
	if err := writeSwapped(dir, h); err != nil {
		return nil, err
	}
	crashpoint.Hit("projector.next_swapping")
	// A crash before this leaves the old file and the next one, which the next start takes; after it the new one is the live one.
	if err := os.Rename(filepath.Join(dir, nextName), p.path); err != nil {
		return nil, err
	}
	crashpoint.Hit("projector.next_swapped")
	n.path = p.path
	p.store.Store(n)
	return old, syncDir(dir)
}

// adoptNext has a starting projector take the next file if it can't use the live one, or there was none. It answers nil if
// there is none that fits.
func (p *Projector) adoptNext(why *unfitError) (*store, error) {
	path := filepath.Join(filepath.Dir(p.path), nextName)
	if _, err := os.Lstat(path); err != nil {
		return nil, nil //nolint:nilerr,nilnil // there is none
	}
	n, err := openStore(path, storeOptions{walk: walkAlways})
	if unfit := unfit(err); unfit != nil {
		return nil, p.refuseNext(path, unfit)
	}
	if err != nil {
		return nil, err
	}
	if why != nil {
		aside, err := setAside(p.path, why.Reason, p.now())
		if err != nil {
			return nil, errors.Join(err, n.close())
		}
		p.logger.Warn().Err(why).Str("aside", aside).Msg("views put aside, the rebuilt ones take their place")
	}
	// A rebuild may wait for what becomes of it.
	if err := writeSwapped(filepath.Dir(p.path), &Handover{Outcome: HandoverTaken}); err != nil {
		return nil, errors.Join(err, n.close())
	}
	// A crash before this leaves the next file and no live one, after it the live one.
	if err := os.Rename(path, p.path); err != nil {
		return nil, errors.Join(err, n.close())
	}
	n.path = p.path
	return n, syncDir(filepath.Dir(p.path))
}
