package sandbox

import (
	"container/heap"
	"strconv"
	"time"
)

// idleWait bounds how long Run sleeps when nothing is due.
const idleWait = time.Minute

// clockID is the only row of the table of clocks.
const clockID = "now"

// clock is what was advanced.
type clock struct{ offset time.Duration }

func (k *clock) hidden() any {
	return &struct {
		Offset *time.Duration `json:"offset"`
	}{&k.offset}
}

// taskKind says what a task does.
type taskKind string

const (
	taskExpireSession taskKind = "expire_session"
	taskOpenDispute   taskKind = "open_dispute"  // about a charge, with the reason
	taskWarnOfFraud   taskKind = "warn_of_fraud" // about a charge
	taskJudgeDispute  taskKind = "judge_dispute" // with the verdict
	taskSettleRefund  taskKind = "settle_refund" // with the status
	taskEndPayment    taskKind = "end_payment"   // of a delayed method
	taskForgetKey     taskKind = "forget_key"    // with the request that was answered
)

// task is something that happens by itself at a moment of the sandbox's clock. It is plain data, so that it outlives the
// process.
type task struct {
	at    time.Time
	seq   int64 // its id, and the order of tasks of one moment
	kind  taskKind
	about string // the object's id
	with  string
}

func (t *task) hidden() any {
	return &struct {
		At    *time.Time `json:"at"`
		Kind  *taskKind  `json:"kind"`
		About *string    `json:"about"`
		With  *string    `json:"with"`
	}{&t.at, &t.kind, &t.about, &t.with}
}

func (t *task) id() string { return strconv.FormatInt(t.seq, 10) }

// do does what a task says. What it is about may have gone, or settled, in the meantime.
func (c *call) do(t *task) {
	switch t.kind {
	case taskExpireSession:
		if cs := c.sessions.get(t.about); cs != nil && cs.Status == sessionOpen {
			c.expire(cs)
		}
	case taskOpenDispute:
		if ch := c.charges.get(t.about); ch != nil {
			c.openDispute(ch, t.with)
		}
	case taskWarnOfFraud:
		if ch := c.charges.get(t.about); ch != nil {
			c.warnOfFraud(ch)
		}
	case taskJudgeDispute:
		if d := c.disputes.get(t.about); d != nil && !d.settled() {
			c.settleDispute(d, t.with)
		}
	case taskSettleRefund:
		if r := c.refunds.get(t.about); r != nil {
			c.settleRefund(r, t.with)
		}
	case taskEndPayment:
		if pi := c.payments.get(t.about); pi != nil {
			c.endPayment(pi)
		}
	case taskForgetKey:
		if k := c.keys.get(t.about); k != nil && k.requestID == t.with {
			c.keys.remove(t.about)
		}
	}
}

type taskHeap []*task

// Len is part of heap.Interface.
func (h *taskHeap) Len() int { return len(*h) }

// Less is part of heap.Interface.
func (h *taskHeap) Less(i, j int) bool {
	a, b := (*h)[i], (*h)[j]
	if a.at.Equal(b.at) {
		return a.seq < b.seq
	}
	return a.at.Before(b.at)
}

// Swap is part of heap.Interface.
func (h *taskHeap) Swap(i, j int) { (*h)[i], (*h)[j] = (*h)[j], (*h)[i] }

// Push is part of heap.Interface.
func (h *taskHeap) Push(x any) {
	if t, ok := x.(*task); ok {
		*h = append(*h, t)
	}
}

// Pop is part of heap.Interface.
func (h *taskHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}

// now is the sandbox's clock: the real one plus what was advanced. Called with mu held.
func (s *Server) now() time.Time { return s.cfg.Now().Add(s.clock.peek(clockID).offset).UTC() }

// after plans a task for a moment of the sandbox's clock. Called with mu held.
func (s *Server) after(d time.Duration, kind taskKind, about, with string) {
	t := &task{at: s.now().Add(d), seq: s.next(), kind: kind, about: about, with: with}
	s.tasks.add(t.id(), t)
	heap.Push(&s.planned, t)
	s.signal()
}

// next numbers tasks and deliveries. Called with mu held.
func (s *Server) next() int64 {
	s.seq++
	return s.seq
}

// tick does what has become due, each task at its own moment's turn. Called with mu held, at the start of every request,
// so that an answer never shows a state that the clock has already ended.
func (s *Server) tick() {
	for len(s.planned) > 0 && !s.planned[0].at.After(s.now()) {
		if t, ok := heap.Pop(&s.planned).(*task); ok {
			s.tasks.remove(t.id())
			s.newCall().do(t)
		}
	}
}

// untilTask is how long the next task is away. Called with mu held.
func (s *Server) untilTask() time.Duration {
	if len(s.planned) == 0 {
		return idleWait
	}
	return min(idleWait, max(0, s.planned[0].at.Sub(s.now())))
}

// advance moves the sandbox's clock on and does what has become due.
func (s *Server) advance(by time.Duration) time.Time {
	s.enter()
	defer s.leave()
	s.clock.get(clockID).offset += by
	s.tick()
	s.signal()
	return s.now()
}
