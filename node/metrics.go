package node

import (
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/gossip"
	"github.com/edgecoder/edgecoder/ledger"
)

// meter holds what is measured as it happens. Everything else is read from where
// it lies when somebody scrapes, see nodeCollector.
type meter struct {
	batch, entries, commit, apply, propose prometheus.Histogram

	leaders    prometheus.Counter
	silences   prometheus.Counter
	leader     raft.ServerID                             // the last that was heard of; owned by watchLeader
	keys       atomic.Pointer[map[fsm.SubjectKind]count] // the leader's last look at keys; nil before the first
	snapshotMs atomic.Int64                              // when this replica last took or was sent a snapshot, Unix milliseconds; 0: never
}

// Buckets in seconds: from what memory takes to what callers no longer wait for.
var latencyBuckets = prometheus.ExponentialBuckets(0.000_1, 2.5, 14)

func newMeter() *meter {
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
	}
	return &meter{
		batch:   histogram("edgecoder_admission_batch_claims", "Claims in one log entry, where this node leads.", prometheus.ExponentialBuckets(1, 2, 13)),
		entries: histogram("edgecoder_ledger_batch_entries", "Operations of the ledger in one log entry, where this node leads.", prometheus.ExponentialBuckets(1, 2, 13)),
		commit: histogram("edgecoder_commit_duration_seconds", "Time from an entry's start at the leader until it was applied there, where this node leads.",
			latencyBuckets),
		apply: histogram("edgecoder_apply_duration_seconds", "Time that applying one log entry took here.", latencyBuckets),
		propose: histogram("edgecoder_propose_duration_seconds", "Time from a change asked of this node until its answer, forwarding included; admissions apart.",
			latencyBuckets),
		leaders: prometheus.NewCounter(prometheus.CounterOpts{Name: "edgecoder_leader_changes_total", Help: "Leaders that this node heard of, one after the other."}),
		silences: prometheus.NewCounter(prometheus.CounterOpts{Name: "edgecoder_leader_silences_total",
			Help: "Times that the leader was silent for so long that this node looked for another."}),
	}
}

// sawLeader counts another leader than the last.
func (m *meter) sawLeader(id raft.ServerID) {
	if id != "" && id != m.leader {
		m.leader = id
		m.leaders.Inc()
	}
}

// sawSnapshot notes the snapshot of a name, term-index-milliseconds, or with an
// empty one a snapshot of now.
func (m *meter) sawSnapshot(id string) {
	at := time.Now().UnixMilli()
	if id != "" {
		ms, err := strconv.ParseInt(id[strings.LastIndexByte(id, '-')+1:], 10, 64)
		if err != nil {
			return
		}
		at = ms
	}
	m.snapshotMs.Store(at)
}

func since(start time.Time, to prometheus.Observer) { to.Observe(time.Since(start).Seconds()) }

// Collectors implements api.Observed.
func (n *Node) Collectors() []prometheus.Collector {
	m := n.meter
	return []prometheus.Collector{m.batch, m.entries, m.commit, m.apply, m.propose, m.leaders, m.silences, n.enforcement.delay, nodeCollector{n}}
}

// nodeCollector reads a node as it is. It asks nothing of other nodes nor of
// the disk, so that a scrape never hangs with them.
type nodeCollector struct{ n *Node }

// sample is one reading on its way.
type sample func(name string, value float64, labels ...string)

// series describes what nodeCollector yields. Labels are names of coordinators
// (at most fsm.MaxCoordinators), and words of this source.
var series = map[string]struct {
	help   string
	kind   prometheus.ValueType
	labels []string
}{
	"edgecoder_build_info":                     {"Version of this binary and the highest feature level that it supports.", prometheus.GaugeValue, []string{"version", "feature_level"}},
	"edgecoder_ready":                          {"1 while this node can serve: leader known, caught up, disk writes.", prometheus.GaugeValue, nil},
	"edgecoder_diverged":                       {"1 while the state of this replica differs from the majority's.", prometheus.GaugeValue, nil},
	"edgecoder_leader":                         {"1 on the node that leads.", prometheus.GaugeValue, nil},
	"edgecoder_leader_known":                   {"1 while this node knows a leader.", prometheus.GaugeValue, nil},
	"edgecoder_raft_term":                      {"Raft's current term.", prometheus.GaugeValue, nil},
	"edgecoder_raft_commit_index":              {"Highest log index that this node knows to be committed.", prometheus.GaugeValue, nil},
	"edgecoder_raft_applied_index":             {"Log index that this replica reflects.", prometheus.GaugeValue, nil},
	"edgecoder_raft_voters":                    {"Voters in raft's configuration.", prometheus.GaugeValue, nil},
	"edgecoder_recovery_epoch":                 {"Recovery epoch of the state.", prometheus.GaugeValue, nil},
	"edgecoder_recovery_rivals":                {"Former members that serve another recovery of this cluster.", prometheus.GaugeValue, nil},
	"edgecoder_feature_level":                  {"Feature level of the cluster.", prometheus.GaugeValue, nil},
	"edgecoder_clock_timestamp_seconds":        {"Cluster clock, Unix time.", prometheus.GaugeValue, nil},
	"edgecoder_clock_skew_seconds":             {"Wall clock of this node minus the median of the voters'.", prometheus.GaugeValue, nil},
	"edgecoder_peer_clock_offset_seconds":      {"Wall clock of another server of the cluster minus this node's, of those that answered lately.", prometheus.GaugeValue, []string{"peer"}},
	"edgecoder_gossip_members":                 {"Members that gossip sees, by state.", prometheus.GaugeValue, []string{"state"}},
	"edgecoder_gossip_queue_messages":          {"Broadcasts waiting to be sent.", prometheus.GaugeValue, nil},
	"edgecoder_gossip_dropped_total":           {"Gossip that was dropped, by reason.", prometheus.CounterValue, []string{"reason"}},
	"edgecoder_queue_length":                   {"Work that waits here, by queue.", prometheus.GaugeValue, []string{"queue"}},
	"edgecoder_queue_length_max":               {"Most work that may wait here, by queue; what is above is refused.", prometheus.GaugeValue, []string{"queue"}},
	"edgecoder_handshakes":                     {"TLS handshakes under way, by who speaks: coordinators are what comes from addresses of members, claims who speaks their protocol from elsewhere, strangers are also those that said nothing yet.", prometheus.GaugeValue, []string{"of"}},
	"edgecoder_handshakes_max":                 {"Most TLS handshakes under way, by who speaks.", prometheus.GaugeValue, []string{"of"}},
	"edgecoder_handshakes_refused_total":       {"Connections that ended before their TLS handshake: room, the slow made room for others; rate, their address began too many, or too many claimed to be coordinators.", prometheus.CounterValue, []string{"reason"}},
	"edgecoder_disk_free_bytes":                {"Free space under the data directory.", prometheus.GaugeValue, nil},
	"edgecoder_disk_reserve_bytes":             {"Space held back for what must be written on a full disk.", prometheus.GaugeValue, nil},
	"edgecoder_disk_low":                       {"1 while the disk is too full to take writes.", prometheus.GaugeValue, nil},
	"edgecoder_disk_stalled_seconds":           {"Age of the oldest durable write in flight that should have ended.", prometheus.GaugeValue, nil},
	"edgecoder_disk_write_median_seconds":      {"Median time of the last log writes; 0 without any lately.", prometheus.GaugeValue, nil},
	"edgecoder_ledger_size":                    {"Records of the ledger.", prometheus.GaugeValue, nil},
	"edgecoder_ledger_circulation_micro":       {"Micro-credits that were issued and not given back.", prometheus.GaugeValue, nil},
	"edgecoder_ledger_sum_micro":               {"Sum of all balances of the ledger, micro-credits; anything but 0 is an alarm.", prometheus.GaugeValue, nil},
	"edgecoder_ledger_epoch_timestamp_seconds": {"Beginning of the newest issuance epoch that was paid, Unix time; 0 before the first.", prometheus.GaugeValue, nil},
	"edgecoder_history_records":                {"Records of history, by stream.", prometheus.GaugeValue, []string{"stream"}},
	"edgecoder_history_bytes":                  {"Bytes of history as a snapshot carries them, by stream.", prometheus.GaugeValue, []string{"stream"}},
	"edgecoder_state_rows":                     {"Rows of a collection of the live state.", prometheus.GaugeValue, []string{"collection"}},
	"edgecoder_state_rows_max":                 {"Cap of a collection of the live state; at it new rows are refused.", prometheus.GaugeValue, []string{"collection"}},
	"edgecoder_snapshot_timestamp_seconds":     {"When this replica last took or was sent a snapshot, Unix time; absent before the first.", prometheus.GaugeValue, nil},
	"edgecoder_backup_timestamp_seconds":       {"When this node last wrote a scheduled backup, Unix time; 0 before the first, absent without a schedule.", prometheus.GaugeValue, nil},
	"edgecoder_retiring_key_requests_total":    {"Requests at this node that were signed with a key that has a successor.", prometheus.CounterValue, nil},
	"edgecoder_keys":                           {"Subjects whose key is due for rotation, overdue or expired, where this node leads.", prometheus.GaugeValue, []string{"kind", "state"}},
	"edgecoder_backup_failed":                  {"1 while the last try of a scheduled backup failed.", prometheus.GaugeValue, nil},
	"edgecoder_log_records":                    {"Records in this node's tree of a log.", prometheus.GaugeValue, []string{"log"}},
	"edgecoder_checkpoint_size":                {"Records in the newest checkpoint that a majority cosigned.", prometheus.GaugeValue, []string{"log"}},
	"edgecoder_checkpoint_timestamp_seconds":   {"When the slowest of its majority signed the newest checkpoint, Unix time; 0 before the first.", prometheus.GaugeValue, []string{"log"}},
	"edgecoder_checkpoint_cosignatures":        {"Cosignatures on the newest checkpoint.", prometheus.GaugeValue, []string{"log"}},
	"edgecoder_cosignature_withheld":           {"1 while this node found a record that is not sound and cosigns nothing.", prometheus.GaugeValue, []string{"log"}},
	"edgecoder_log_forked":                     {"1 on a node that stopped serving because its log is not the one that was signed.", prometheus.GaugeValue, []string{"log"}},
	"edgecoder_cosigner_set_version":           {"Version of the cosigner set in force; 0 before the first.", prometheus.GaugeValue, []string{"log"}},
}

var descs = func() map[string]*prometheus.Desc {
	out := map[string]*prometheus.Desc{}
	for name, s := range series {
		out[name] = prometheus.NewDesc(name, s.help, s.labels, nil)
	}
	return out
}()

// Describe implements prometheus.Collector.
func (c nodeCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range descs {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c nodeCollector) Collect(out chan<- prometheus.Metric) {
	put := func(name string, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(descs[name], series[name].kind, value, labels...)
	}
	put("edgecoder_build_info", 1, c.n.cfg.Version, strconv.FormatUint(uint64(c.n.cfg.supports()), 10))
	c.n.measureStatus(put)
	c.n.measurePeers(put)
	c.n.measureGossip(put)
	c.n.measureQueues(put)
	c.n.measureHandshakes(put)
	c.n.measureState(put)
	c.n.measureCopies(put)
	c.n.measureKeys(put)
	c.n.measureLogs(put)
}

func (n *Node) measureStatus(put sample) {
	st := n.Status()
	put("edgecoder_ready", truth(n.Ready() == nil))
	put("edgecoder_diverged", truth(n.diverged.Load() != nil))
	put("edgecoder_leader", truth(n.lead.Load() != nil))
	put("edgecoder_leader_known", truth(st.Leader != nil))
	put("edgecoder_raft_term", float64(st.Term))
	put("edgecoder_raft_commit_index", float64(st.CommitIndex))
	put("edgecoder_raft_applied_index", float64(st.AppliedIndex))
	put("edgecoder_raft_voters", float64(len(st.Voters)))
	put("edgecoder_recovery_epoch", float64(st.Epoch))
	put("edgecoder_recovery_rivals", float64(len(st.Rivals)))
	put("edgecoder_feature_level", float64(st.FeatureLevel))
	put("edgecoder_clock_timestamp_seconds", seconds(st.ClockMs))
	put("edgecoder_clock_skew_seconds", seconds(st.ClockSkewMs))
	put("edgecoder_disk_free_bytes", float64(st.Disk.FreeBytes))
	put("edgecoder_disk_reserve_bytes", float64(st.Disk.ReserveBytes))
	put("edgecoder_disk_low", truth(st.Disk.Low))
	put("edgecoder_disk_stalled_seconds", seconds(st.Disk.StalledMs))
	put("edgecoder_disk_write_median_seconds", st.Disk.WriteMs/1000)
	if b := st.Backup; b != nil {
		put("edgecoder_backup_timestamp_seconds", seconds(b.LastMs))
		put("edgecoder_backup_failed", truth(b.Error != ""))
	}
}

func (n *Node) measurePeers(put sample) {
	names := map[string]string{}
	n.machine.Read(func(s *fsm.State) {
		for _, c := range s.Coordinators() {
			names[c.ID] = c.Name
		}
	})
	for id, ms := range n.offsets(idsOf(n.servers())) {
		if name := names[id]; id != n.id.NodeID && name != "" {
			put("edgecoder_peer_clock_offset_seconds", seconds(ms), name)
		}
	}
}

func (n *Node) measureGossip(put sample) {
	states := map[string]int{gossip.StateAlive: 0, gossip.StateSuspect: 0, gossip.StateDead: 0, gossip.StateLeft: 0}
	for _, m := range n.pool.Members() {
		if _, known := states[m.State]; known {
			states[m.State]++
		}
	}
	for state, count := range states {
		put("edgecoder_gossip_members", float64(count), state)
	}
	st := n.pool.Stats()
	put("edgecoder_gossip_queue_messages", float64(st.Queued))
	put("edgecoder_gossip_dropped_total", float64(st.Malformed), "malformed")
	put("edgecoder_gossip_dropped_total", float64(st.NewsUntrusted), "untrusted")
	put("edgecoder_gossip_dropped_total", float64(st.InboxDropped), "inbox_full")
	put("edgecoder_gossip_dropped_total", float64(st.CardsRefused), "card")
	put("edgecoder_gossip_dropped_total", float64(st.PacketsDropped), "packet")
	put("edgecoder_gossip_dropped_total", float64(st.StreamsRefused), "stream")
}

func (n *Node) measureQueues(put sample) {
	n.admit.mu.Lock()
	waiting := n.admit.waiting
	n.admit.mu.Unlock()
	put("edgecoder_queue_length", float64(waiting), "admissions")
	put("edgecoder_queue_length_max", maxWaiting, "admissions")
	put("edgecoder_queue_length", float64(n.movers.waiting.Load()), "ledger")
	put("edgecoder_queue_length_max", maxMoving, "ledger")
	put("edgecoder_queue_length", float64(len(n.proposals)), "proposals")
	put("edgecoder_queue_length_max", float64(cap(n.proposals)), "proposals")
	put("edgecoder_queue_length", float64(len(n.joining)), "joins")
	put("edgecoder_queue_length_max", float64(cap(n.joining)), "joins")
}

func (n *Node) measureHandshakes(put sample) {
	var strangers, peers, claims, most, mostPeers, mostClaims int
	var room, rate uint64
	for _, m := range n.face.muxes {
		g := m.greeter
		strangers, peers = strangers+g.strangers.waiting.Used(), peers+g.peers.waiting.Used()
		most, mostPeers = most+g.strangers.waiting.Most(), mostPeers+g.peers.waiting.Most()
		claims, mostClaims = claims+g.claims.waiting.Used(), mostClaims+g.claims.waiting.Most()
		byRoom, byRate := g.refused()
		room, rate = room+byRoom, rate+byRate
	}
	put("edgecoder_handshakes", float64(strangers), "strangers")
	put("edgecoder_handshakes", float64(peers), "coordinators")
	put("edgecoder_handshakes", float64(claims), "claims")
	put("edgecoder_handshakes_max", float64(most), "strangers")
	put("edgecoder_handshakes_max", float64(mostPeers), "coordinators")
	put("edgecoder_handshakes_max", float64(mostClaims), "claims")
	put("edgecoder_handshakes_refused_total", float64(room), "room")
	put("edgecoder_handshakes_refused_total", float64(rate), "rate")
}

func (n *Node) measureState(put sample) {
	var usage []fsm.Usage
	var book fsm.LedgerBook
	var issued, sum int64
	n.machine.Read(func(s *fsm.State) {
		usage = s.Usage()
		book, _ = s.LedgerBook()
		issuance, _ := s.LedgerAccount(ledger.Issuance)
		issued, sum = -issuance.Balance, s.LedgerSum()
	})
	put("edgecoder_ledger_size", float64(book.Size))
	put("edgecoder_ledger_circulation_micro", float64(issued))
	put("edgecoder_ledger_sum_micro", float64(sum))
	put("edgecoder_ledger_epoch_timestamp_seconds", seconds(book.NewestEpoch()))
	for _, u := range usage {
		put("edgecoder_state_rows", float64(u.Rows), u.Name)
		put("edgecoder_state_rows_max", float64(u.Cap), u.Name)
	}
}

// streamNames name the streams of history in labels.
var streamNames = map[fsm.Stream]string{fsm.StreamBlacklist: "blacklist", fsm.StreamAdmin: "admin", fsm.StreamLedger: "ledger"}

func (n *Node) measureCopies(put sample) {
	for _, s := range fsm.Streams() {
		name, known := streamNames[s]
		if !known {
			name = strconv.Itoa(int(s))
		}
		records, bytes := n.store.History.Size(s)
		put("edgecoder_history_records", float64(records), name)
		put("edgecoder_history_bytes", float64(bytes), name)
	}
	if ms := n.meter.snapshotMs.Load(); ms != 0 {
		put("edgecoder_snapshot_timestamp_seconds", seconds(ms))
	}
}

func seconds(ms int64) float64 { return float64(ms) / 1000 }

func truth(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
