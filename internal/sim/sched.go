package sim

import (
	"iter"
	"time"
)

// epoch is when every simulation begins.
var epoch = time.Date(2026, 1, 5, 8, 0, 0, 0, time.UTC) //nolint:gochecknoglobals // never changes

// event is something that happens at a moment.
type event struct {
	at  time.Time
	seq uint64 // of two at one moment the one that was planned first
	do  func()
}

// events is a heap of them, typed: every step of a run passes through it.
type events []event

func (h *events) before(i, j int) bool {
	a, b := &(*h)[i], &(*h)[j]
	return a.at.Before(b.at) || a.at.Equal(b.at) && a.seq < b.seq
}

func (h *events) push(e event) {
	list := append(*h, e)
	for i := len(list) - 1; i > 0; {
		up := (i - 1) / 2
		if !list.before(i, up) {
			break
		}
		list[i], list[up] = list[up], list[i]
		i = up
	}
	*h = list
}

func (h *events) pop() event {
	list := *h
	first, n := list[0], len(list)-1
	list[0], list[n] = list[n], event{}
	list = list[:n]
	for i := 0; ; {
		least := i
		for down := 2*i + 1; down <= 2*i+2 && down < n; down++ {
			if list.before(down, least) {
				least = down
			}
		}
		if least == i {
			break
		}
		list[i], list[least] = list[least], list[i]
		i = least
	}
	*h = list
	return first
}

// sched is the one thread of a simulation: it takes the next event off the heap and lets it happen.
type sched struct {
	now   time.Time
	seq   uint64
	heap  events
	cur   *task // that runs now; nil between tasks
	steps int
	free  []*thread
}

// after plans something.
func (s *sched) after(d time.Duration, do func()) {
	s.seq++
	s.heap.push(event{at: s.now.Add(max(d, 0)), seq: s.seq, do: do})
}

// run lets things happen until done says so or nothing is planned before the end.
func (s *sched) run(end time.Time, done func() bool) {
	for len(s.heap) > 0 && !done() {
		if s.heap[0].at.After(end) {
			s.now = end
			return
		}
		e := s.heap.pop()
		s.now = e.at
		s.steps++
		e.do()
	}
}

// task is work that takes time: it runs until it waits, and others go on meanwhile.
type task struct {
	s      *sched
	do     func(t *task)
	thread *thread
	killed bool
	ended  bool
}

// thread is what tasks run on, one after the other: a stack that has grown is used again.
type thread struct {
	task  *task
	next  func() (time.Duration, bool)
	stop  func()
	yield func(time.Duration) bool
}

// idle is what a thread yields that has no task.
const idle = time.Duration(-1)

func newThread() *thread {
	h := &thread{}
	h.next, h.stop = iter.Pull(func(yield func(time.Duration) bool) {
		h.yield = yield
		for {
			h.task.do(h.task)
			if h.task.killed || !yield(idle) {
				return
			}
		}
	})
	return h
}

// start begins a task now. It ends when do returns, or is killed.
func (s *sched) start(do func(t *task)) *task {
	t := &task{s: s, do: do}
	s.after(0, t.resume)
	return t
}

func (t *task) resume() {
	if t.ended {
		return
	}
	s := t.s
	if t.thread == nil {
		if n := len(s.free); n > 0 {
			t.thread, s.free = s.free[n-1], s.free[:n-1]
		} else {
			t.thread = newThread()
		}
		t.thread.task = t
	}
	before := s.cur
	s.cur = t
	wait, runs := t.thread.next()
	s.cur = before
	if !runs || wait == idle {
		t.ended = true
		if runs {
			s.free = append(s.free, t.thread)
		}
		return
	}
	s.after(wait, t.resume)
}

// sleep lets others go on for a while. false says that the task was killed meanwhile: it has to end, and nothing that it
// does has an effect any more.
func (t *task) sleep(d time.Duration) bool {
	if t.killed {
		return false
	}
	return t.thread.yield(max(d, 0)) && !t.killed
}

// kill ends a task where it is.
func (t *task) kill() {
	if t.ended {
		return
	}
	t.killed, t.ended = true, true
	if t.thread == nil {
		return // not begun
	}
	before := t.s.cur
	t.s.cur = t
	t.thread.stop()
	t.s.cur = before
}

// end lets go of the threads that nobody needs any more.
func (s *sched) end() {
	for _, h := range s.free {
		h.stop()
	}
	s.free = nil
}
