package sandbox

import (
	"container/heap"
	"time"
)

// idleWait bounds how long Run sleeps when nothing is due.
const idleWait = time.Minute

// task is something that happens by itself at a moment of the sandbox's clock.
type task struct {
	at  time.Time
	seq int // keeps tasks of one moment in order
	do  func(*call)
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
func (s *Server) now() time.Time { return s.cfg.Now().Add(s.offset).UTC() }

// after plans do for a moment of the sandbox's clock. Called with mu held.
func (s *Server) after(d time.Duration, do func(*call)) {
	s.taskSeq++
	heap.Push(&s.tasks, &task{at: s.now().Add(d), seq: s.taskSeq, do: do})
	s.signal()
}

// tick does what has become due, each task at its own moment's turn. Called with mu held, at the start of every request,
// so that an answer never shows a state that the clock has already ended.
func (s *Server) tick() {
	for len(s.tasks) > 0 && !s.tasks[0].at.After(s.now()) {
		if t, ok := heap.Pop(&s.tasks).(*task); ok {
			t.do(s.newCall())
		}
	}
}

// untilTask is how long the next task is away. Called with mu held.
func (s *Server) untilTask() time.Duration {
	if len(s.tasks) == 0 {
		return idleWait
	}
	return min(idleWait, max(0, s.tasks[0].at.Sub(s.now())))
}

// advance moves the sandbox's clock on and does what has become due.
func (s *Server) advance(by time.Duration) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offset += by
	s.tick()
	s.signal()
	return s.now()
}
