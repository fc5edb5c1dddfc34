package eventlog

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/paykit-go/paykit/internal/events"
)

// The streams, behind the prefix in upper case.
const (
	streamLog      = "LOG"
	streamLinks    = "LINKS"
	streamInbox    = "INBOX"
	streamCommands = "COMMANDS"
	streamProfiles = "PROFILES"
	streamDead     = "DEAD"
	streamCalls    = "CALLS"
)

const (
	metadataEnv   = "paykit_env"              // in the LOG's stream metadata
	metadataLinks = "paykit_links_rebuilt_to" // in LINKS' stream metadata: [linksMarkFormat]
	inboxLife     = 42 * 24 * time.Hour
	deadLife      = 365 * 24 * time.Hour
	callsLife     = 365 * 24 * time.Hour
	maxEvent      = 256 << 10       // bytes of an event
	minLogMessage = maxEvent + 1024 // what a message limit of the LOG must leave room for
	minInboxLimit = 1<<20 + 64<<10  // the webhook door takes bodies up to 1 MiB
	maxAckWait    = 30 * time.Second
	ackWait       = 20 * time.Second // + pinned TTL < 40 s: a killed worker's calls are taken up in time
	pinnedTTL     = 10 * time.Second
	// Delayed messages count: what is open is the settling's list, parked deliveries are the normalizer's, and with the list
	// full nothing more would be delivered. Each takes about 100 bytes of the server's memory; the server goes through the
	// list after each delay that is asked for, which at 200,000 and 50 a second costs 0.8 of a core and nothing while quiet.
	maxAckPending  = 1_000_000
	minAckPending  = 10_000
	pinnedGroup    = "active"
	republishTo    = ".events.{{wildcard(1)}}.{{wildcard(2)}}.{{wildcard(4)}}"
	unlimited      = -1
	settingMissing = "missing"
)

// ConsumerName names one of the durable consumers.
type ConsumerName string

// The durable consumers. Of the worker's three one process is active at a time, the others stand by.
const (
	ConsumerRequests   ConsumerName = "requests"   // of LOG: the events that ask the worker for a call
	ConsumerSettling   ConsumerName = "settling"   // of LOG: the events that leave something open
	ConsumerNormalizer ConsumerName = "normalizer" // of INBOX
	ConsumerCommands   ConsumerName = "commands"   // of COMMANDS

	ConsumerWorkerDecisions ConsumerName = "worker_decisions" // of DEAD: each of the two gets every decision,
	ConsumerIngestDecisions ConsumerName = "ingest_decisions" // and lets go of those about the other's letters
)

func streamName(prefix, name string) string { return strings.ToUpper(prefix) + "_" + name }

// streams gives the streams as they should be. MaxBytes of the LOG is filled in by Provision.
func streams(cfg Config) []jetstream.StreamConfig {
	p := cfg.Prefix
	list := []jetstream.StreamConfig{
		{
			Name: streamLog, Description: "Every event, for ever", Subjects: []string{p + ".log.*.*.*.*"},
			DenyDelete: true, DenyPurge: true,
			RePublish: &jetstream.RePublish{Source: p + ".log.*.*.*.*", Destination: p + republishTo},
		},
		{
			Name: streamLinks, Description: "From a provider's object back to ours; rebuilt from the log",
			Subjects: []string{p + ".link.*.*"}, MaxMsgsPerSubject: 1,
		},
		{
			Name: streamInbox, Description: "Signed deliveries before they are understood; personal data",
			Subjects: []string{p + ".inbox.*.*.*"}, MaxAge: inboxLife, AllowAtomicPublish: true,
		},
		{
			Name: streamCommands, Description: "Commands left by apps that do not wait; may hold personal data",
			Subjects: []string{p + ".cmd.*.*"}, Retention: jetstream.WorkQueuePolicy,
		},
		{
			Name: streamProfiles, Description: "Customers' e-mail, name and metadata; personal data",
			Subjects: []string{p + ".profile.*"},
		},
		{
			Name: streamDead, Description: "What could not be processed, and why", Subjects: []string{p + ".dead.*.*.*"},
			MaxAge: deadLife,
		},
		{
			// What is kept here explains and decides nothing, so its acknowledgement does not wait for the disk: with an fsync of
			// each record beside those of the LOG every charge would be slower. What a crash of the server loses is the last
			// records (of its machine, those of the last two minutes): a story then has a gap, nothing else. Replicated streams
			// know no such mode; there the replicas' logs are synced once for many records.
			Name: streamCalls, Description: "Calls to providers, for paykit explain: no bodies, no secrets", Subjects: []string{p + ".call.*.*.*"},
			MaxAge: callsLife, PersistMode: jetstream.AsyncPersistMode,
		},
	}
	for i := range list {
		s := &list[i]
		s.Name = streamName(p, s.Name)
		s.Storage = jetstream.FileStorage
		s.Discard = jetstream.DiscardNew // a full stream refuses; it never drops what it has
		s.MaxMsgs, s.MaxBytes, s.MaxConsumers, s.MaxMsgSize = unlimited, unlimited, unlimited, unlimited
		s.AllowDirect = true
		s.Replicas = max(cfg.Replicas, 1)
		if s.Replicas > 1 {
			s.PersistMode = jetstream.DefaultPersistMode
		}
		if s.MaxMsgsPerSubject == 0 {
			s.MaxMsgsPerSubject = unlimited
		}
	}
	return list
}

type consumerConfig struct {
	stream string
	jetstream.ConsumerConfig
}

// consumers gives the durable consumers as they should be.
func consumers(cfg Config) []consumerConfig {
	p := cfg.Prefix
	filters := func(types []events.Type) []string {
		var list []string
		for _, t := range types {
			list = append(list, p+".log."+string(t.Entity())+"."+t.Name()+".*.*")
		}
		slices.Sort(list)
		return list
	}
	decisions := []string{p + ".dead." + stageDecision + ".*.*"}
	list := []consumerConfig{
		{stream: streamLog, ConsumerConfig: jetstream.ConsumerConfig{
			Durable: string(ConsumerRequests), FilterSubjects: filters(events.RequestTypes()),
			PriorityPolicy: jetstream.PriorityPolicyPinned,
		}},
		{stream: streamLog, ConsumerConfig: jetstream.ConsumerConfig{
			Durable: string(ConsumerSettling), FilterSubjects: filters(events.SettlingTypes()),
			PriorityPolicy: jetstream.PriorityPolicyPinned,
		}},
		{stream: streamInbox, ConsumerConfig: jetstream.ConsumerConfig{Durable: string(ConsumerNormalizer)}},
		{stream: streamCommands, ConsumerConfig: jetstream.ConsumerConfig{Durable: string(ConsumerCommands)}},
		{stream: streamDead, ConsumerConfig: jetstream.ConsumerConfig{
			Durable: string(ConsumerWorkerDecisions), FilterSubjects: decisions, PriorityPolicy: jetstream.PriorityPolicyPinned,
		}},
		{stream: streamDead, ConsumerConfig: jetstream.ConsumerConfig{
			Durable: string(ConsumerIngestDecisions), FilterSubjects: decisions,
		}},
	}
	for i := range list {
		c := &list[i]
		c.stream = streamName(p, c.stream)
		c.AckPolicy = jetstream.AckExplicitPolicy
		c.DeliverPolicy = jetstream.DeliverAllPolicy
		c.AckWait = ackWait
		c.MaxDeliver = unlimited // the handler decides when it is enough
		c.MaxAckPending = maxAckPending
		if c.PriorityPolicy == jetstream.PriorityPolicyPinned {
			c.PriorityGroups = []string{pinnedGroup}
			c.PinnedTTL = pinnedTTL
		}
	}
	return list
}

// comparison collects the settings of one stream or consumer that break a promise.
type comparison struct {
	name string
	errs []error
}

func (c *comparison) check(ok bool, setting string, want, got any) {
	if !ok {
		c.errs = append(c.errs, &WeakenedError{
			Stream: c.name, Setting: setting, Want: fmt.Sprint(want), Got: fmt.Sprint(got),
		})
	}
}

// compareStream names what weakens a promise. A difference that strengthens one or means nothing (a larger max_bytes,
// more replicas, compression, a description) is fine.
func compareStream(want, got jetstream.StreamConfig) []error {
	c := &comparison{name: want.Name}
	isLog := strings.HasSuffix(want.Name, "_"+streamLog)
	isCalls := strings.HasSuffix(want.Name, "_"+streamCalls) // diagnosis: it may drop its oldest, and be synced or not
	c.check(slices.Equal(want.Subjects, got.Subjects), "subjects", want.Subjects, got.Subjects)
	c.check(want.Retention == got.Retention, "retention", want.Retention, got.Retention)
	c.check(got.Storage == jetstream.FileStorage, "storage", jetstream.FileStorage, got.Storage)
	c.check((isCalls || got.Discard == jetstream.DiscardNew) && !got.DiscardNewPerSubject, "discard", "new", discardText(got))
	c.check(got.MaxMsgs <= 0, "max_msgs", "unlimited", got.MaxMsgs)
	c.check(got.MaxAge == want.MaxAge, "max_age", want.MaxAge, got.MaxAge)
	c.check(want.MaxMsgsPerSubject == unlimitedOr(got.MaxMsgsPerSubject), "max_msgs_per_subject",
		limitText(want.MaxMsgsPerSubject), limitText(got.MaxMsgsPerSubject))
	if isLog {
		c.check(got.MaxBytes > 0, "max_bytes", "a limit", limitText(got.MaxBytes))
	}
	least := int32(minLogMessage)
	if strings.HasSuffix(want.Name, "_"+streamInbox) {
		least = minInboxLimit
	}
	c.check(got.MaxMsgSize <= 0 || got.MaxMsgSize >= least, "max_msg_size", "at least "+strconv.Itoa(int(least)), got.MaxMsgSize)
	// The LOG must refuse deletion; everywhere else deletion is how personal data leaves.
	c.check(got.DenyDelete == want.DenyDelete, "deny_delete", want.DenyDelete, got.DenyDelete)
	c.check(got.DenyPurge || !want.DenyPurge, "deny_purge", want.DenyPurge, got.DenyPurge)
	c.check(got.AllowDirect, "allow_direct", true, got.AllowDirect)
	c.check(!got.AllowRollup, "allow_rollup_hdrs", false, got.AllowRollup)
	c.check(!got.AllowMsgTTL, "allow_msg_ttl", false, got.AllowMsgTTL)
	c.check(!got.AllowMsgSchedules, "allow_msg_schedules", false, got.AllowMsgSchedules)
	c.check(!got.AllowMsgCounter, "allow_msg_counter", false, got.AllowMsgCounter)
	// Two events of one entity in one batch would both pass the guard.
	c.check(got.AllowAtomicPublish == want.AllowAtomicPublish || !isLog && !want.AllowAtomicPublish, "allow_atomic",
		want.AllowAtomicPublish, got.AllowAtomicPublish)
	c.check(!got.AllowBatchPublish, "allow_batched", false, got.AllowBatchPublish)
	c.check(!got.NoAck, "no_ack", false, got.NoAck)
	c.check(!got.Sealed, "sealed", false, got.Sealed)
	c.check(isCalls || got.PersistMode == jetstream.DefaultPersistMode, "persist_mode", "default", got.PersistMode)
	c.check(got.Mirror == nil, "mirror", "none", sourceText(got.Mirror))
	c.check(len(got.Sources) == 0, "sources", "none", len(got.Sources))
	c.check(got.SubjectTransform == nil, "subject_transform", "none", got.SubjectTransform)
	c.check(republishText(got.RePublish) == republishText(want.RePublish) || !isLog && got.RePublish == nil, "republish",
		republishText(want.RePublish), republishText(got.RePublish))
	c.check(got.ConsumerLimits.InactiveThreshold == 0, "consumer_limits.inactive_threshold", 0, got.ConsumerLimits.InactiveThreshold)
	return c.errs
}

// compareConsumer names what weakens a promise of a durable consumer.
func compareConsumer(want consumerConfig, got jetstream.ConsumerConfig) []error {
	c := &comparison{name: want.stream + " consumer " + want.Durable}
	filters := slices.Clone(got.FilterSubjects)
	if got.FilterSubject != "" {
		filters = append(filters, got.FilterSubject)
	}
	slices.Sort(filters)
	c.check(slices.Equal(want.FilterSubjects, filters), "filter_subjects", want.FilterSubjects, filters)
	c.check(got.AckPolicy == want.AckPolicy, "ack_policy", want.AckPolicy, got.AckPolicy)
	c.check(got.DeliverPolicy == want.DeliverPolicy || restoredAt(got), "deliver_policy", want.DeliverPolicy, got.DeliverPolicy)
	c.check(got.AckWait > 0 && got.AckWait <= maxAckWait, "ack_wait", "at most "+maxAckWait.String(), got.AckWait)
	c.check(got.MaxDeliver <= 0, "max_deliver", "unlimited", got.MaxDeliver)
	c.check(len(got.BackOff) == 0, "backoff", "none", got.BackOff)
	c.check(got.MaxAckPending < 0 || got.MaxAckPending >= minAckPending, "max_ack_pending",
		"at least "+strconv.Itoa(minAckPending), got.MaxAckPending)
	c.check(got.DeliverSubject == "", "deliver_subject", "none", got.DeliverSubject)
	c.check(got.ReplayPolicy == jetstream.ReplayInstantPolicy, "replay_policy", jetstream.ReplayInstantPolicy, got.ReplayPolicy)
	c.check(got.MaxRequestBatch <= 0 || got.MaxRequestBatch >= pullMessages, "max_batch", "at least "+strconv.Itoa(pullMessages), got.MaxRequestBatch)
	c.check(got.MaxRequestExpires <= 0 || got.MaxRequestExpires >= pullExpiry, "max_expires", "at least "+pullExpiry.String(), got.MaxRequestExpires)
	c.check(!got.HeadersOnly, "headers_only", false, got.HeadersOnly)
	c.check(!got.MemoryStorage, "mem_storage", false, got.MemoryStorage)
	c.check(got.InactiveThreshold == 0, "inactive_threshold", "none", got.InactiveThreshold)
	c.check(got.RateLimit == 0, "rate_limit_bps", "none", got.RateLimit)
	c.check(got.PriorityPolicy == want.PriorityPolicy, "priority_policy", policyText(want.PriorityPolicy), policyText(got.PriorityPolicy))
	c.check(slices.Equal(got.PriorityGroups, want.PriorityGroups), "priority_groups", want.PriorityGroups, got.PriorityGroups)
	c.check(got.PinnedTTL <= want.PinnedTTL, "priority_timeout", want.PinnedTTL, got.PinnedTTL)
	return c.errs
}

func unlimitedOr(n int64) int64 {
	if n <= 0 {
		return unlimited
	}
	return n
}

func limitText(n int64) string {
	if n <= 0 {
		return "unlimited"
	}
	return strconv.FormatInt(n, 10)
}

func discardText(c jetstream.StreamConfig) string {
	switch {
	case c.Discard == jetstream.DiscardOld:
		return "old"
	case c.DiscardNewPerSubject:
		return "new per subject"
	}
	return "new"
}

func sourceText(s *jetstream.StreamSource) string {
	if s == nil {
		return "none"
	}
	return s.Name
}

func republishText(r *jetstream.RePublish) string {
	if r == nil {
		return settingMissing
	}
	text := r.Source + " → " + r.Destination
	if r.HeadersOnly {
		text += " (headers only)"
	}
	return text
}

func policyText(p jetstream.PriorityPolicy) string {
	switch p {
	case jetstream.PriorityPolicyPinned:
		return "pinned_client"
	case jetstream.PriorityPolicyOverflow:
		return "overflow"
	case jetstream.PriorityPolicyPrioritized:
		return "prioritized"
	case jetstream.PriorityPolicyNone:
	}
	return "none"
}
