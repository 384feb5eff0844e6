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
	maxStreams        = 100 // of HTTP/2 on one connection, the least that RFC 9113 recommends
)

// HTTPServer returns a server of the API with every timeout and bound set. Its
// hooks ConnContext and ConnState are taken: they bound the connections. As it
// shuts down it ends the streams of events first.
func (s *Server) HTTPServer() *http.Server {
	srv := httpServer(s.Handler(), s.conns, s.cfg.Log)
	srv.RegisterOnShutdown(s.EndStreams)
	return srv
}

func httpServer(h http.Handler, all *connections, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ConnContext:       all.open,
		ConnState:         all.moved,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug), // handshakes of strangers: not worth more
	}
}
