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
	batchWorth = 16              // single writes that a batch costs as much as, until it was measured
	batchMost  = 256             // deliveries of one batch; the server takes 1,000
	batchRoom  = 1 << 20         // bytes of one batch
	openWait   = 2 * time.Second // for the answer to a batch's first, then what was gathered behind it is sent singly
	batchWait  = time.Second     // for a batch's answer, then its deliveries are sent singly
	costShare  = 8               // a measurement counts for an eighth of what is believed
	costFades  = 2048            // what a batch costs is believed so much less with each single write
)

// The headers of an atomic batch. Source: https://github.com/nats-io/nats-architecture-and-design ADR-50
const (
	headerBatchID       = "Nats-Batch-Id"
	headerBatchSequence = "Nats-Batch-Sequence"
	headerBatchCommit   = "Nats-Batch-Commit"
)

// inboxBatch lets deliveries that come at once share one sync to disk. The server syncs single writes one after the other,
// and takes a batch in with about six syncs and files of its own, however many it holds. So a delivery is written at once
// and alone, as long as what is under way would take the server less time than a batch. When it would take longer, the
// deliveries that come are gathered, without any timer: the first of a batch is sent at once, and its answer says that
// the server has done what was sent before and has made room for the batch. All that came until then go with it. The next
// batch's first is sent meanwhile, so the server never waits for us.
//
// Every delivery is a subject of its own and is guarded by it, so neither a batch nor two that are under way at once hold
// two that could see each other: a second copy of one that waits or is under way takes its answer from the first and is
// not sent.
type inboxBatch struct {
	mu      sync.Mutex             // guards all below
	known   map[string]*inboxWrite // waiting or under way, by subject
	waiting []*inboxWrite          // in the order in which they came
	opening bool                   // a batch's first was sent; it gathers those that wait
	batches int                    // under way
	last    time.Time              // when the server last answered

	single, batch time.Duration // what a single write and a batch take the server, lately; 0 = not measured
}

// pays tells whether the server is expected to be done sooner with a batch than with n single writes.
func (b *inboxBatch) pays(n int) bool {
	if n < 2 {
		return false
	}
	if b.batch == 0 {
		return n >= batchWorth
	}
	return time.Duration(n)*b.single > b.batch
}

// measuredSingle takes in that a single write was answered after so long, the last of n that were under way. What a batch
// costs is believed a little less each time, so that one slow one is not held against it for ever. Called with mu held.
func (b *inboxBatch) measuredSingle(n int, took time.Duration) {
	b.single = smooth(b.single, took/time.Duration(n))
	b.batch -= b.batch / costFades
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
	unsure    bool // it was in a batch that may be stored: who finds it there then may well find his own
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
	// Not ended by this caller's own end: others take their answers from it.
	lasting := context.WithoutCancel(ctx)
	if len(b.waiting) == 0 && !b.pays(len(b.known)) {
		ahead := b.ahead()
		b.mu.Unlock()
		l.writeSingle(lasting, w, ahead)
		return w.stored, w.err
	}
	b.waiting = append(b.waiting, w)
	l.next(lasting)
	b.mu.Unlock()
	err := w.wait(ctx)
	return err == nil && w.stored, err
}

// ahead counts the single writes that the server does before it answers the one that is about to be sent, itself included;
// 0 if a batch is among them. Called with mu held.
func (b *inboxBatch) ahead() int {
	if b.batches > 0 || len(b.waiting) > 0 {
		return 0
	}
	return len(b.known)
}

// next sends on what waits, if its time has come: two or more open a batch, unless one is open and gathers them anyway. One
// alone waits for a second, or until something that is under way is answered. Called with mu held.
func (l *Log) next(ctx context.Context) {
	b := &l.inbox
	if b.opening || len(b.waiting) < 2 {
		return
	}
	b.opening = true
	b.batches++
	first := b.take(1)[0]
	go l.writeBatch(ctx, first)
}

// take takes as many of those that wait as a batch may hold, at most n. Called with mu held.
func (b *inboxBatch) take(most int) []*inboxWrite {
	n, bytes := 0, 0
	for n < len(b.waiting) && n < most {
		bytes += len(b.waiting[n].msg.Data)
		if n > 0 && bytes > batchRoom {
			break
		}
		n++
	}
	taken := slices.Clone(b.waiting[:n])
	rest := copy(b.waiting, b.waiting[n:])
	clear(b.waiting[rest:])
	b.waiting = b.waiting[:rest]
	return taken
}

// writeBatch opens a batch with its first delivery, gathers those that come until the server has opened it, and writes
// them. Where that fails they are written singly: the server refuses a batch as a whole because one of its deliveries is
// there already, and does not say which; and a server whose storage is full may give no answer to one.
//
// That is sound also for a batch that is stored in spite of its silence: under the guard each single write then finds its
// delivery there. It counts as stored: it may have been there before the batch, but as a duplicate it would be taken for one
// that had come before, and by the backfill for a sign that deliveries arrive. Both waits together leave whoever waits for 5 s,
// as the webhook door does, time for the single write.
func (l *Log) writeBatch(ctx context.Context, first *inboxWrite) {
	b := &l.inbox
	began := time.Now()
	id := nats.NewInbox()[len(nats.InboxPrefix):]
	failed := l.openBatch(ctx, id, first)
	b.mu.Lock()
	if b.last.After(began) {
		began = b.last // the server was at what had been sent before; whatever came later comes after this batch
	}
	list := append([]*inboxWrite{first}, b.take(batchMost-1)...)
	b.opening = false
	l.next(ctx)
	b.mu.Unlock()
	if failed == nil {
		failed = l.commitBatch(ctx, id, list)
		for _, w := range list {
			w.unsure = isUnknown(failed)
		}
	}
	if failed != nil {
		l.cfg.Logger.Debug().Err(failed).Int("deliveries", len(list)).Msg("deliveries are written singly: their batch was not stored")
	}
	b.mu.Lock()
	b.batches--
	b.batch = smooth(b.batch, time.Since(began))
	b.mu.Unlock()
	if failed == nil {
		l.answer(ctx, list, nil)
		return
	}
	for _, w := range list {
		go l.writeSingle(ctx, w, 0)
	}
}

// writeSingle writes one delivery by itself and answers it. ahead is how many single writes the server does for it, 0 = not
// known.
func (l *Log) writeSingle(ctx context.Context, w *inboxWrite, ahead int) {
	began := time.Now()
	_, err := l.publish(ctx, l.stream(streamInbox), w.msg, 0, w.msg.Subject)
	there := errors.Is(err, ErrConflict)
	w.duplicate = there && !w.unsure
	if there {
		err = l.duplicate(ctx, w.msg.Subject)
	}
	if b := &l.inbox; ahead > 0 && err == nil && !there {
		b.mu.Lock()
		if b.batches == 0 {
			b.measuredSingle(ahead, time.Since(began))
		}
		b.mu.Unlock()
	}
	l.answer(ctx, []*inboxWrite{w}, err)
}

// answer answers deliveries, and sends on what waited for that.
func (l *Log) answer(ctx context.Context, list []*inboxWrite, err error) {
	b := &l.inbox
	b.mu.Lock()
	b.last = time.Now()
	for _, w := range list {
		delete(b.known, w.msg.Subject)
	}
	var alone *inboxWrite
	if len(b.waiting) == 1 && !b.opening {
		alone = b.take(1)[0]
	}
	b.mu.Unlock()
	for _, w := range list {
		w.err, w.stored = err, err == nil && !w.duplicate
		close(w.done)
	}
	if alone != nil {
		go l.writeSingle(ctx, alone, 0)
	}
}

// openBatch sends the first delivery of a batch and waits until the server holds it: then it is at this batch, and no sooner.
// Nothing of a batch that is not committed is ever stored; the server throws it away after 10 s, as after a crash of ours.
func (l *Log) openBatch(ctx context.Context, id string, w *inboxWrite) error {
	if err := l.connected(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, min(openWait, l.patience))
	defer cancel()
	msg := l.batched(w, id, 1)
	msg.Header.Set(jetstream.ExpectedStreamHeader, l.stream(streamInbox))
	answer, err := l.nc.RequestMsgWithContext(ctx, msg)
	if err != nil {
		return writeError(err)
	}
	if len(answer.Data) > 0 { // it says why not
		return batchAnswer(answer.Data, -1)
	}
	return nil
}

// commitBatch sends the deliveries behind a batch's first, and with the last of them commits it: it is stored whole, or not
// at all. Only the last asks for an answer, and that is the answer of the whole.
//
// A crash of ours before the last leaves a part that the server throws away; after the last, a batch that is stored whole
// and nobody was told of: the provider delivers again, and all are duplicates.
func (l *Log) commitBatch(ctx context.Context, id string, list []*inboxWrite) error {
	ctx, cancel := context.WithTimeout(ctx, min(batchWait, l.patience))
	defer cancel()
	for i, w := range list[1 : len(list)-1] {
		if err := l.nc.PublishMsg(l.batched(w, id, i+2)); err != nil {
			return writeError(err)
		}
	}
	msg := l.batched(list[len(list)-1], id, len(list))
	msg.Header.Set(headerBatchCommit, "1")
	answer, err := l.nc.RequestMsgWithContext(ctx, msg)
	if err != nil {
		return writeError(err)
	}
	return batchAnswer(answer.Data, len(list))
}

// batched is a delivery as the n-th of a batch, guarded by its own subject. It is a message of its own: should the batch be
// refused, the delivery is sent again without these headers.
func (l *Log) batched(w *inboxWrite, id string, n int) *nats.Msg {
	msg := &nats.Msg{Subject: w.msg.Subject, Data: w.msg.Data, Header: make(nats.Header, len(w.msg.Header)+4)}
	maps.Copy(msg.Header, w.msg.Header)
	msg.Header.Set(headerBatchID, id)
	msg.Header.Set(headerBatchSequence, strconv.Itoa(n))
	msg.Header.Set(jetstream.ExpectedLastSubjSeqHeader, "0")
	return msg
}

// batchAnswer reads the acknowledgement of a batch of n.
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
