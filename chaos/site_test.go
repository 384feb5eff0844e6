package chaos

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgecoder/edgecoder/chaos/judge"
)

// TestPlayRefuses holds that nothing is begun of a scenario that is none.
func TestPlayRefuses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	err := Play(t.Context(), Scenario{Name: "nothing"}, Options{Dir: dir}, Site{})
	if err == nil || !strings.Contains(err.Error(), "the duration must be positive") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("it made the directory of a run")
	}
}

// TestPlayAtADeadSite holds that a site where nobody answers is an error, told
// with what was tried, and no run. That it plays at one that lives is what the
// simulation in package node shows.
func TestPlayAtADeadSite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "run")
		site := Site{Nodes: map[string]string{"n1": "https://10.0.0.1:443"}, Token: "none", Roots: x509.NewCertPool(),
			Dial: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("nobody there") }}
		s := Scenario{Name: "dead", Nodes: 1, Duration: Duration(time.Second), Traffic: DefaultTraffic()}
		if err := Play(t.Context(), s, Options{Dir: dir}, site); err == nil || !strings.Contains(err.Error(), "nobody there") {
			t.Errorf("got %v", err)
		}
		if _, err := os.Stat(filepath.Join(dir, judge.HistoryFile)); err == nil {
			t.Error("it recorded a history")
		}
	})
}
