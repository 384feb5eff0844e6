package edge

import "github.com/prometheus/client_golang/prometheus"

// collector reads the edge as it is when somebody scrapes.
type collector struct{ j *Judge }

func gauge(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, nil, nil) }

var (
	descChecks  = prometheus.NewDesc("edgecoder_edge_checks_total", "Questions whether an agent may act, by the code of the answer.", []string{"code"}, nil)
	descFresh   = gauge("edgecoder_edge_fresh", "1 while a majority vouched for the list within the lease.")
	descLease   = gauge("edgecoder_edge_lease_left_seconds", "How long the list is still fresh; 0: it is not.")
	descAge     = gauge("edgecoder_edge_list_age_seconds", "How long ago a majority vouched for the list; -1: not since the edge started.")
	descSize    = gauge("edgecoder_edge_chain_size", "Events in the verified chain.")
	descLag     = gauge("edgecoder_edge_chain_lag", "Events that the edge heard of and has not verified yet.")
	descEpoch   = gauge("edgecoder_edge_epoch", "Recovery epoch of the list.")
	descBans    = gauge("edgecoder_edge_bans", "Bans held, those that expired lately included.")
	descHalted  = gauge("edgecoder_edge_halted", "1 once the edge stopped over two lists that contradict each other.")
	descLooks   = gauge("edgecoder_edge_looks_total", "Times that the edge asked members for the list, or verified what a hint brought.")
	descFailed  = gauge("edgecoder_edge_looks_failed_total", "Of them, no member could bring the edge up to date.")
	descRefused = gauge("edgecoder_edge_answers_refused_total", "Answers of members that did not verify.")
	descBytes   = gauge("edgecoder_edge_pulled_bytes_total", "Bytes of events pulled.")
)

// Describe implements prometheus.Collector.
func (c collector) Describe(to chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, to) }

// Collect implements prometheus.Collector.
func (c collector) Collect(to chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	for code, n := range c.j.Checks() {
		send(descChecks, prometheus.CounterValue, float64(n), code)
	}
	view, st := c.j.Set.View(), c.j.Sync.Status()
	f := c.j.Freshness(view)
	age := float64(f.AgeMs) / 1000
	if f.AgeMs < 0 {
		age = -1
	}
	send(descFresh, prometheus.GaugeValue, flag(f.Fresh))
	send(descLease, prometheus.GaugeValue, float64(f.LeaseLeftMs)/1000)
	send(descAge, prometheus.GaugeValue, age)
	send(descSize, prometheus.GaugeValue, float64(f.Size))
	send(descLag, prometheus.GaugeValue, float64(max(st.Wanted, f.Size)-f.Size))
	send(descEpoch, prometheus.GaugeValue, float64(f.Epoch))
	send(descBans, prometheus.GaugeValue, float64(view.Len()))
	send(descHalted, prometheus.GaugeValue, flag(f.Halted != ""))
	send(descLooks, prometheus.CounterValue, float64(st.Looks))
	send(descFailed, prometheus.CounterValue, float64(st.Failed))
	send(descRefused, prometheus.CounterValue, float64(st.Refused))
	send(descBytes, prometheus.CounterValue, float64(st.Bytes))
}

func flag(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
