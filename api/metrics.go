package api

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// GET /metrics in the text format of Prometheus. What is hot is counted where it
// happens, by counters that were made before; what the node knows anyway is read
// when somebody scrapes. No label comes from a request: agents, tokens and
// addresses are without number.

// meter counts what this server does.
type meter struct {
	handler    http.Handler
	admissions map[string]prometheus.Counter   // by verdict or error code
	operations map[fsm.Code]prometheus.Counter // of the ledger
	shed       map[string]prometheus.Counter   // by reason
	answers    [6]prometheus.Counter           // by first digit of the status
}

// The reasons for which work is refused without having been done.
const (
	shedAddress = "address_rate"    // an address asked too often without a valid credential
	shedSlots   = "slots"           // too many requests in flight, here or of one caller
	shedQueue   = "queue"           // a queue or window behind the API is full
	shedDisk    = "disk_full"       // the node or the cluster takes no writes
	shedNoWay   = "unavailable"     // no leader, no quorum, no clock, not serving
	shedUnknown = "unknown_outcome" // it may have happened
)

// shedCodes maps error codes to reasons.
var shedCodes = map[string]string{
	client.CodeRateLimited: shedAddress, client.CodeOverloaded: shedQueue, client.CodeDiskFull: shedDisk,
	client.CodeUnavailable: shedNoWay, client.CodeUnknownOutcome: shedUnknown,
}

// verdicts are all codes that an admission may end with.
var verdicts = []string{
	client.VerdictOK, client.VerdictMissingHeaders, client.VerdictMalformed, client.VerdictTimestampSkew, client.VerdictUnknownAgent,
	client.VerdictAgentNotActive, client.VerdictInvalidSignature, client.VerdictKeyExpired, client.VerdictBlacklisted, client.VerdictReplay,
	client.VerdictRateLimited, client.CodeConflict, client.CodeUnauthorized, client.CodeForbidden, client.CodeUnavailable, client.CodeOverloaded,
	client.CodeUnknownOutcome, client.CodeDiskFull, client.CodeInternal,
}

func newMeter(s *Server) *meter {
	registry := prometheus.NewRegistry()
	own := prometheus.WrapRegistererWith(prometheus.Labels{"node": s.cfg.Node}, registry)
	m := &meter{admissions: map[string]prometheus.Counter{}, operations: map[fsm.Code]prometheus.Counter{}, shed: map[string]prometheus.Counter{}}
	admissions := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "edgecoder_admissions_total",
		Help: "Admissions answered by this node, by verdict code, or by error code when undecided."}, []string{"code"})
	shed := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "edgecoder_http_shed_total",
		Help: "Requests refused by this node before or instead of their work, by reason."}, []string{"reason"})
	answers := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "edgecoder_http_responses_total",
		Help: "HTTP answers of this node, by class of status."}, []string{"status"})
	operations := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "edgecoder_ledger_operations_total",
		Help: "Transfers, holds and their ends answered by this node, by code; those of a batch one by one."}, []string{"code"})
	m.operations[fsm.CodeOK] = operations.WithLabelValues(string(fsm.CodeOK))
	for code := range ledgerDetails {
		m.operations[code] = operations.WithLabelValues(string(code))
	}
	for _, code := range verdicts {
		m.admissions[code] = admissions.WithLabelValues(code)
	}
	for _, reason := range shedCodes {
		m.shed[reason] = shed.WithLabelValues(reason)
	}
	m.shed[shedSlots] = shed.WithLabelValues(shedSlots)
	for i, class := range [...]string{"other", "1xx", "2xx", "3xx", "4xx", "5xx"} {
		m.answers[i] = answers.WithLabelValues(class)
	}
	own.MustRegister(admissions, operations, shed, answers, serverCollector{s})
	own.MustRegister(s.node.Collectors()...)
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.handler = promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes, DisableCompression: true})
	return m
}

// maxScrapes bounds scrapes at a time: each gathers some hundred kilobytes.
const maxScrapes = 4

// decided counts the answer to one admission.
func (m *meter) decided(out *client.Admission, failure *client.Error) {
	code := out.Code
	if failure != nil {
		code = failure.Code
	}
	if counter := m.admissions[code]; counter != nil {
		counter.Inc()
	}
}

// operated counts the answer to one operation of the ledger.
func (m *meter) operated(code fsm.Code) {
	if counter := m.operations[code]; counter != nil {
		counter.Inc()
	}
}

// refused counts an error if it stands for work that was not done.
func (m *meter) refused(code string, crowded bool) {
	reason := shedCodes[code]
	if crowded {
		reason = shedSlots
	}
	if counter := m.shed[reason]; counter != nil {
		counter.Inc()
	}
}

func (m *meter) answered(status int) {
	if class := status / 100; class > 0 && class < len(m.answers) {
		m.answers[class].Inc()
		return
	}
	m.answers[0].Inc()
}

// metrics answers GET /metrics.
func (s *Server) metrics(c *call) error {
	c.setIndexHeader()
	c.wrote = true
	s.meter.answered(http.StatusOK)
	s.meter.handler.ServeHTTP(c.w, c.r)
	return nil
}

// serverCollector reads the bounds of a server and how far they are used.
type serverCollector struct{ s *Server }

// classNames name the classes in labels.
var classNames = [numClasses]string{
	classPlain: "plain", classWait: "wait", classBatch: "batch", classOpen: "open",
	classStream: "stream", classBackup: "backup", classEvents: "events", classHealth: "health",
}

// rankNames name the ranks of tokens in labels.
var rankNames = [numRanks]string{rankLeast: "least", rankWork: "work", rankRule: "rule"}

var (
	descInFlight    = prometheus.NewDesc("edgecoder_http_requests_in_flight", "Requests in flight at this node, by class and rank of the token.", []string{"class", "rank"}, nil)
	descInFlightMax = prometheus.NewDesc("edgecoder_http_requests_in_flight_max", "Most requests in flight at this node, by class and rank of the token.", []string{"class", "rank"}, nil)
	descConns       = prometheus.NewDesc("edgecoder_http_connections", "Open connections of the API.", nil, nil)
	descConnsMax    = prometheus.NewDesc("edgecoder_http_connections_max", "Most open connections of the API.", nil, nil)
	descConnsNo     = prometheus.NewDesc("edgecoder_http_connections_refused_total", "Connections without a valid credential that made room for new ones, because there were too many.", nil, nil)
	descBodies      = prometheus.NewDesc("edgecoder_http_bodies_bytes", "Request bodies on their way, by who sends.", []string{"from"}, nil)
	descBodiesMax   = prometheus.NewDesc("edgecoder_http_bodies_bytes_max", "Most bytes of request bodies on their way, by who sends.", []string{"from"}, nil)
	descBodiesNo    = prometheus.NewDesc("edgecoder_http_bodies_refused_total", "Slow request bodies that made room for others, by who sends.", []string{"from"}, nil)
	descGuard       = prometheus.NewDesc("edgecoder_guard_addresses", "Addresses that asked without a valid credential and are remembered.", nil, nil)
	descGuardMax    = prometheus.NewDesc("edgecoder_guard_addresses_max", "Most addresses that are remembered.", nil, nil)
)

// Describe implements prometheus.Collector.
func (c serverCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descInFlight, descInFlightMax, descConns, descConnsMax, descConnsNo, descBodies, descBodiesMax, descBodiesNo, descGuard, descGuardMax} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c serverCollector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	inFlight := func(used, most int, labels ...string) {
		if most > 0 {
			gauge(descInFlight, float64(used), labels...)
			gauge(descInFlightMax, float64(most), labels...)
		}
	}
	for class, ranks := range c.s.slots.tokens {
		for rank, slots := range ranks {
			inFlight(slots.Used(), slots.Most(), classNames[class], rankNames[rank])
		}
	}
	inFlight(c.s.slots.open.Used(), openSlots, classNames[classOpen], "stranger")
	inFlight(c.s.slots.agents.Used(), agentSlots, classNames[classOpen], "agent")
	gauge(descConns, float64(c.s.conns.count()))
	gauge(descConnsMax, maxStrangers+maxKnown)
	counter(descConnsNo, c.s.conns.strangers.Evicted())
	gauge(descBodies, float64(c.s.strangerBodies.Used()), "strangers")
	gauge(descBodiesMax, strangerBodies, "strangers")
	counter(descBodiesNo, c.s.strangerBodies.Evicted(), "strangers")
	gauge(descBodies, float64(c.s.tokenBodies.Used()), "tokens")
	gauge(descBodiesMax, tokenBodies, "tokens")
	counter(descBodiesNo, c.s.tokenBodies.Evicted(), "tokens")
	gauge(descGuard, float64(c.s.guard.all.Size()))
	gauge(descGuardMax, guardEntries)
}
