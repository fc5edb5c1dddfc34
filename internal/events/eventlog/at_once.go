package eventlog

import "sync"

// AtOnce runs functions that do not depend on each other at the same time, and returns when all have ended. It saves waiting
// for one answer of the server before the next is asked for. A panic in one is the caller's panic, after all have ended.
func AtOnce(work ...func()) {
	var wg sync.WaitGroup
	panicked := make(chan any, len(work))
	run := func(do func()) {
		defer func() {
			if p := recover(); p != nil {
				panicked <- p
			}
		}()
		do()
	}
	for i, do := range work {
		if i == len(work)-1 {
			run(do) // on this goroutine, which would only wait
			continue
		}
		wg.Go(func() { run(do) })
	}
	wg.Wait()
	select {
	case p := <-panicked:
		panic(p)
	default:
	}
}
