package api

import (
	"log/slog"
	"net/http"
	"time"
)

// Timeouts and bounds of a connection. They keep a peer that sends or reads
// slowly from holding anything for long.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 15 * time.Second
	writeTimeout      = 30 * time.Second
	idleTimeout       = 2 * time.Minute
	strangerIdle      = 10 * time.Second // of a connection that never showed a valid credential
	maxHeaderBytes    = 16 << 10
)

// HTTPServer returns a server for h with every timeout and bound set. Its
// hooks ConnContext and ConnState are taken: they bound the connections.
func HTTPServer(h http.Handler, log *slog.Logger) *http.Server {
	all := newConnections(maxConnections, connectionShare)
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ConnContext:       all.open,
		ConnState:         all.moved,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug), // handshakes of strangers: not worth more
	}
}
