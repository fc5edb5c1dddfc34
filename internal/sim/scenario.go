package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// Scenario is one simulation: all that happens follows from it. The zero value of everything but Seed is the whole run.
type Scenario struct {
	Seed uint64 `json:"seed"`
	// What shrinking took away.
	DropCommands []int    `json:"dropCommands,omitempty"` // by number
	DropFaults   []string `json:"dropFaults,omitempty"`   // kinds
	SkipFaults   []int    `json:"skipFaults,omitempty"`   // single ones, by number in the order in which they would hit
	MaxFaults    int      `json:"maxFaults,omitempty"`    // no more than so many; 0 = no limit
	// Problem is what was found, for the reader.
	Problem string `json:"problem,omitempty"`
}

// kind is a kind of fault.
type kind int

// The faults.
const (
	natsRefused   kind = iota // a request never gets to the server, and that is known
	natsUnknown               // a write is not answered, and was not carried out
	natsAnswer                // a write is carried out, and its acknowledgement is lost
	natsLate                  // a write is not answered, and is carried out later
	natsFull                  // the server has no room for a while
	ackLost                   // what a handler said of its message does not arrive
	deliveredTwo              // a message that somebody has in hand is handed to another
	partition                 // a process does not reach the server for a while
	kill                      // a process dies
	longKill                  // … and comes back after hours
	clockJump                 // a process's clock jumps
	stripeTimeout             // a call is not answered, and was not carried out
	stripeAfter               // a call is carried out, and its answer is lost
	stripeLate                // a call is not answered, and is carried out later
	stripe500                 // a server error that the key keeps, and nothing was done
	stripe500Done             // a server error that the key keeps, and it was done
	stripe502                 // a bad gateway, and it was done
	stripe503                 // not now
	stripe429                 // too many
	stripe409                 // the key is in use
	stripe401                 // the credentials are refused for a while
	stripeDown                // nothing is answered for a while
	hookTwice                 // a delivery comes several times
	hookSlow                  // … after minutes
	hookLate                  // … after days
	hookDropped               // … never
	hookForged                // somebody else sends one
	kinds
)

func kindNames() [kinds]string {
	return [kinds]string{
		"nats_refused", "nats_unknown", "nats_answer_lost", "nats_late", "nats_full", "ack_lost", "delivered_to_two", "partition",
		"kill", "long_kill", "clock_jump", "stripe_timeout", "stripe_answer_lost", "stripe_late", "stripe_500", "stripe_500_done",
		"stripe_502_done", "stripe_503", "stripe_429", "stripe_409", "stripe_401", "stripe_down", "webhook_twice", "webhook_slow",
		"webhook_late", "webhook_dropped", "webhook_forged",
	}
}

func (k kind) String() string { return kindNames()[k] }

// mix is which faults a run has, and how often. Two levels, as FoundationDB's BUGGIFY: a kind is active in a part of the
// runs, and hits now and then where it is.
type mix struct {
	rates    [kinds]float64
	on       bool
	random   *rand.Rand
	skip     []int
	most     int
	number   int
	Injected [kinds]int
}

func newMix(sc Scenario, random *rand.Rand) *mix {
	m := &mix{random: random, skip: sc.SkipFaults, most: sc.MaxFaults, on: true}
	names := kindNames()
	for k := range kinds {
		active, rate := random.Float64() < 0.35, []float64{0.004, 0.01, 0.03, 0.08}[random.IntN(4)]
		if active && !slices.Contains(sc.DropFaults, names[k]) {
			m.rates[k] = rate
		}
	}
	return m
}

// hits tells whether a fault happens here. factor makes those that are asked for rarely as likely as the others.
func (m *mix) hits(k kind, factor float64) bool {
	rate := m.rates[k] * factor
	if !m.on || rate == 0 || m.random.Float64() >= rate {
		return false
	}
	m.number++
	if slices.Contains(m.skip, m.number) || m.most > 0 && m.number > m.most {
		return false
	}
	m.Injected[k]++
	return true
}

// stream is a source of chance of its own, so that leaving one thing away leaves the others as they were.
func (sc Scenario) stream(n uint64) *rand.Rand {
	return rand.New(rand.NewPCG(sc.Seed, n)) //nolint:gosec // G404: a simulation wants to be repeated
}

// Command is the command line that plays a scenario again.
func (sc Scenario) Command() string {
	return fmt.Sprintf("go test ./internal/sim -run '^TestSeed$' -seed=%d -trace", sc.Seed)
}
