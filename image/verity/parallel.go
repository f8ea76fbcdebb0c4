package verity

import (
	"context"
	"runtime"
	"sync"
)

// parallel calls work for 0 to n-1 on as many goroutines as there are processors, each of which has a worker of its
// own. The error is that of the lowest number that has one, however they are scheduled: what is damaged in several
// places is always reported in the same words.
func parallel(ctx context.Context, n int64, worker func() func(i int64) error) error {
	var mu sync.Mutex
	var next int64
	var failed error
	end := n // the first number that need not be tried
	take := func() (int64, bool) {
		mu.Lock()
		defer mu.Unlock()
		if next >= end || ctx.Err() != nil {
			return 0, false
		}
		next++
		return next - 1, true
	}
	var wg sync.WaitGroup
	for range min(int64(runtime.GOMAXPROCS(0)), n) {
		wg.Go(func() {
			work := worker()
			for i, ok := take(); ok; i, ok = take() {
				if err := work(i); err != nil {
					mu.Lock()
					if i < end {
						end, failed = i, err
					}
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if failed == nil && next < n {
		return context.Cause(ctx)
	}
	return failed
}
