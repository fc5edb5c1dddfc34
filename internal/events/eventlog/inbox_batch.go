package eventlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	batchWorth = 8       // single writes that a batch costs as much as, until it was measured
	batchMost  = 256     // deliveries of one batch; the server takes 1,000
	batchRoom  = 1 << 20 // bytes of one batch
	costShare  = 8       // a measurement counts for an eighth of what is believed
)

// The headers of an atomic batch. Source: https://github.com/nats-io/nats-architecture-and-design ADR-50
const (
	headerBatchID       = "Nats-Batch-Id"
	headerBatchSequence = "Nats-Batch-Sequence"
	headerBatchCommit   = "Nats-Batch-Commit"
)

// inboxBatch lets deliveries that come at once share one sync to disk. A delivery that finds nobody writing is written at
// once and alone, exactly as without it; those that come meanwhile wait, and go together as one atomic batch as soon as
// that write is done. So the batches grow with the load and with the disk's slowness, and no delivery waits for a timer.
//
// Every delivery is a subject of its own and is guarded by it, so a batch holds no two that could see each other: a
// second copy of one that waits or is under way takes its answer from the first and is not sent.
type inboxBatch struct {
	mu      sync.Mutex
	writing bool                   // somebody writes; whoever comes waits; guarded by mu
	waiting []*inboxWrite          // in the order in which they came; guarded by mu
	known   map[string]*inboxWrite // waiting or under way, by subject; guarded by mu

	single, batch time.Duration // what a single write and a batch take, lately; 0 = not measured; whoever writes has them
}

// pays tells whether a batch is expected to be done sooner than n single writes, which the server syncs one after the
// other. A batch is staged in files of its own, so it costs as much as several of them: how many depends on the disk.
func (b *inboxBatch) pays(n int) bool {
	if n < 2 {
		return false
	}
	if b.batch == 0 {
		return n >= batchWorth
	}
	return time.Duration(n)*b.single > b.batch
}

// measured takes in how long n single writes took, or a batch. What a batch costs is believed a little less each time that
// none is made, so that one slow one is not held against it for ever.
func (b *inboxBatch) measured(n int, batch bool, took time.Duration) {
	if batch {
		b.batch = smooth(b.batch, took)
		return
	}
	b.single = smooth(b.single, took/time.Duration(n))
	b.batch -= b.batch / 256
}

func smooth(before, now time.Duration) time.Duration {
	if before == 0 {
		return now
	}
	return before + (now-before)/costShare
}

// inboxWrite is one delivery on its way. What it holds but its message belongs to its writer until done is closed.
type inboxWrite struct {
	msg       *nats.Msg
	done      chan struct{}
	stored    bool
	duplicate bool
	err       error
}

// wait waits for the answer.
func (w *inboxWrite) wait(ctx context.Context) error {
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
		return &UnknownError{Err: ctx.Err()}
	}
}

// storeInbox stores one delivery under its guard: true if it was not there. A ctx that ends leaves it on its way: what
// became of it is then not known.
func (l *Log) storeInbox(ctx context.Context, msg *nats.Msg) (bool, error) {
	b := &l.inbox
	w := &inboxWrite{msg: msg, done: make(chan struct{})}
	b.mu.Lock()
	if first := b.known[msg.Subject]; first != nil {
		b.mu.Unlock()
		return false, first.wait(ctx) // the first copy is stored, by itself or before
	}
	if b.known == nil {
		b.known = map[string]*inboxWrite{}
	}
	b.known[msg.Subject] = w
	if b.writing {
		b.waiting = append(b.waiting, w)
		b.mu.Unlock()
		err := w.wait(ctx)
		return err == nil && w.stored, err
	}
	b.writing = true
	b.mu.Unlock()
	// Not ended by this caller's own end: others take their answers from it.
	l.writeInbox(context.WithoutCancel(ctx), []*inboxWrite{w})
	l.handOn(context.WithoutCancel(ctx))
	return w.stored, w.err
}

// handOn lets those that came meanwhile be written next.
func (l *Log) handOn(ctx context.Context) {
	b := &l.inbox
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting) == 0 {
		b.writing = false
		return
	}
	next := b.take()
	go func() {
		l.writeInbox(ctx, next)
		l.handOn(ctx)
	}()
}

// take takes as many of those that wait as one batch may hold. Called with mu held.
func (b *inboxBatch) take() []*inboxWrite {
	n, bytes := 0, 0
	for n < len(b.waiting) && n < batchMost {
		bytes += len(b.waiting[n].msg.Data)
		if n > 0 && bytes > batchRoom {
			break
		}
		n++
	}
	next := slices.Clone(b.waiting[:n])
	rest := copy(b.waiting, b.waiting[n:])
	clear(b.waiting[rest:])
	b.waiting = b.waiting[:rest]
	return next
}

// writeInbox writes deliveries and answers each: as one batch, or singly where they are few, or where the batch was
// refused because one of them is there already (which one, the server does not say).
func (l *Log) writeInbox(ctx context.Context, list []*inboxWrite) {
	began := time.Now()
	if l.inbox.pays(len(list)) {
		err := l.publishBatch(ctx, list)
		if err == nil || isUnknown(err) {
			l.inbox.measured(len(list), true, time.Since(began))
			// Not known counts for all of them: the provider delivers them again, and those that were stored are duplicates.
			l.answer(list, err)
			return
		}
	}
	began = time.Now()
	defer func() { l.inbox.measured(len(list), false, time.Since(began)) }()
	var all sync.WaitGroup
	for _, w := range list {
		all.Go(func() {
			_, err := l.publish(ctx, l.stream(streamInbox), w.msg, 0, w.msg.Subject)
			if stored := !errors.Is(err, ErrConflict); stored {
				l.answer([]*inboxWrite{w}, err)
				return
			}
			w.duplicate = true
			l.answer([]*inboxWrite{w}, l.duplicate(ctx, w.msg.Subject))
		})
	}
	all.Wait()
}

func (l *Log) answer(list []*inboxWrite, err error) {
	b := &l.inbox
	b.mu.Lock()
	for _, w := range list {
		delete(b.known, w.msg.Subject)
	}
	b.mu.Unlock()
	for _, w := range list {
		w.err, w.stored = err, err == nil && !w.duplicate
		close(w.done)
	}
}

// publishBatch stores all of the deliveries, or none: as one atomic batch, each guarded by its own subject. Only the last
// asks for an answer, and that is the answer of the whole. Its errors are those of publish; after any but
// [*UnknownError] nothing was stored.
//
// A crash of ours before the last leaves a part that the server throws away after 10 s; after the last, a batch that is
// stored whole and nobody was told of: the provider delivers again, and all are duplicates.
func (l *Log) publishBatch(ctx context.Context, list []*inboxWrite) error {
	if err := l.connected(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, l.patience)
	defer cancel()
	id, last := nats.NewInbox()[len(nats.InboxPrefix):], len(list)-1
	for i, w := range list {
		// A message of its own: should the batch be refused, this one is sent again singly, without these headers.
		msg := &nats.Msg{Subject: w.msg.Subject, Data: w.msg.Data, Header: maps.Clone(w.msg.Header)}
		msg.Header.Set(headerBatchID, id)
		msg.Header.Set(headerBatchSequence, strconv.Itoa(i+1))
		msg.Header.Set(jetstream.ExpectedStreamHeader, l.stream(streamInbox))
		msg.Header.Set(jetstream.ExpectedLastSubjSeqHeader, "0")
		if i < last {
			if err := l.nc.PublishMsg(msg); err != nil {
				return unsent(err)
			}
			continue
		}
		msg.Header.Set(headerBatchCommit, "1")
		answer, err := l.nc.RequestMsgWithContext(ctx, msg)
		if err != nil {
			return writeError(err)
		}
		return batchAnswer(answer.Data, len(list))
	}
	return nil
}

// unsent is the error of a batch whose last message was never sent: nothing of it is ever stored.
func unsent(err error) error {
	if err = writeError(err); isUnknown(err) {
		return fmt.Errorf("%w: %w", ErrUnavailable, errors.Unwrap(err))
	}
	return err
}

// batchAnswer reads a batch's acknowledgement.
func batchAnswer(data []byte, n int) error {
	var ack struct {
		Stream string              `json:"stream"`
		Count  int                 `json:"count"`
		Error  *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(data, &ack); err != nil {
		return &UnknownError{Err: fmt.Errorf("the answer of a batch: %w", err)}
	}
	switch {
	case ack.Error != nil:
		return writeError(ack.Error)
	case ack.Count != n:
		return &UnknownError{Err: fmt.Errorf("%d of a batch of %d were acknowledged", ack.Count, n)}
	}
	return nil
}
