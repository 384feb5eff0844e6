package api

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/edgecoder/edgecoder/client"
)

// GET /metrics in the text format of Prometheus. What is hot is counted where it
// happens, by counters that were made before; what the node knows anyway is read
// when somebody scrapes. No label comes from a request: agents, tokens and
// addresses are without number.

// meter counts what this server does.
type meter struct {
	handler    http.Handler
	admissions map[string]prometheus.Counter // by verdict or error code
	shed       map[string]prometheus.Counter // by reason
	answers    [6]prometheus.Counter         // by first digit of the status
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
	m := &meter{admissions: map[string]prometheus.Counter{}, shed: map[string]prometheus.Counter{}}
	admissions := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "edgecoder_admissions_total",
		Help: "Admissions answered by this node, by verdict code, or by error code when undecided."}, []string{"code"})
	shed := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "edgecoder_http_shed_total",
		Help: "Requests refused by this node before or instead of their work, by reason."}, []string{"reason"})
	answers := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "edgecoder_http_responses_total",
		Help: "HTTP answers of this node, by class of status."}, []string{"status"})
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
	own.MustRegister(admissions, shed, answers, serverCollector{s})
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

var (
	descInFlight    = prometheus.NewDesc("edgecoder_http_requests_in_flight", "Requests in flight at this node, by class.", []string{"class"}, nil)
	descInFlightMax = prometheus.NewDesc("edgecoder_http_requests_in_flight_max", "Most requests in flight at this node, by class.", []string{"class"}, nil)
	descConns       = prometheus.NewDesc("edgecoder_http_connections", "Open connections of the API.", nil, nil)
	descConnsMax    = prometheus.NewDesc("edgecoder_http_connections_max", "Most open connections of the API.", nil, nil)
	descConnsNo     = prometheus.NewDesc("edgecoder_http_connections_refused_total", "Connections closed at once, because there were too many in all or of their address.", nil, nil)
	descGuard       = prometheus.NewDesc("edgecoder_guard_addresses", "Addresses that asked without a valid credential and are remembered.", nil, nil)
	descGuardMax    = prometheus.NewDesc("edgecoder_guard_addresses_max", "Most addresses that are remembered.", nil, nil)
)

// Describe implements prometheus.Collector.
func (c serverCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descInFlight, descInFlightMax, descConns, descConnsMax, descConnsNo, descGuard, descGuardMax} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c serverCollector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for class, slots := range c.s.slots {
		if slots != nil {
			gauge(descInFlight, float64(len(slots)), classNames[class])
			gauge(descInFlightMax, float64(cap(slots)), classNames[class])
		}
	}
	gauge(descConns, float64(c.s.conns.count()))
	gauge(descConnsMax, float64(c.s.conns.most))
	out <- prometheus.MustNewConstMetric(descConnsNo, prometheus.CounterValue, float64(c.s.conns.refused.Load()))
	gauge(descGuard, float64(c.s.guard.size()))
	gauge(descGuardMax, guardEntries)
}
