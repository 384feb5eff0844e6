package api

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// snapshot answers GET /v1/snapshot: a backup of what this replica has, as fresh
// as the query wants it, of any length. One that breaks off lacks its last checksum.
func (s *Server) snapshot(c *call) error {
	if _, err := c.waits(); err != nil {
		return err
	}
	if err := c.read(func(*fsm.State) {}); err != nil {
		return err
	}
	b, err := s.node.Backup()
	if err != nil {
		return err
	}
	c.index = b.Index
	out, err := c.stream("")
	if err != nil {
		return err
	}
	out.kind = snapshotType
	c.w.Header()["Content-Disposition"] = []string{fmt.Sprintf("attachment; filename=%q", b.Name)}
	if err := b.Write(out.out); err != nil {
		return err
	}
	return out.end("")
}

var snapshotType = []string{client.SnapshotType}

// restore answers POST /v1/snapshot/restore. The body is the backup; the node
// reads it as a stream.
func (s *Server) restore(c *call) error {
	plan, err := c.queryBool("plan")
	if err != nil {
		return err
	}
	lose, err := c.queryBool("lose_acknowledged")
	if err != nil {
		return err
	}
	confirm := c.r.URL.Query().Get("confirm")
	if plan == (confirm != "") {
		return invalid("confirm", "ask for a plan first (plan=true), and then for the restore with the confirm value that the plan has")
	}
	if plan && lose {
		return invalid("lose_acknowledged", "a plan loses nothing: give this with confirm")
	}
	body, err := c.upload()
	if err != nil {
		return err
	}
	if plan {
		c.subject = "plan" // nothing changes
		out, err := s.node.PlanRestore(c.r.Context(), body)
		if err != nil {
			return c.brokenUpload(err)
		}
		out.BansLostList, out.BansBackList = orEmpty(out.BansLostList), orEmpty(out.BansBackList)
		out.AgentsLostIDs, out.AgentsList, out.TokensVoid = orEmpty(out.AgentsLostIDs), orEmpty(out.AgentsList), orEmpty(out.TokensVoid)
		return c.reply(http.StatusOK, out)
	}
	out, err := s.node.Restore(c.r.Context(), body, RestoreOrder{
		RestoreOrder: client.RestoreOrder{Confirm: confirm, LoseAcknowledged: lose}, Actor: fsm.Actor{TokenID: c.token.ID}})
	if err != nil {
		return c.brokenUpload(err)
	}
	c.index = max(c.index, out.Index)
	return c.reply(http.StatusOK, out)
}

func (c *call) queryBool(name string) (bool, error) {
	switch v := c.r.URL.Query().Get(name); v {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	default:
		return false, invalid(name, quote(v)+" is neither true nor false")
	}
}

// brokenUpload: when the body broke off nobody reads the rest of it.
func (c *call) brokenUpload(err error) error {
	c.w.Header()["Connection"] = closing // a refused body may still be on its way
	return err
}

// upload returns the body of a route that streams it. Whoever reads it bounds
// nothing but memory: the size is bounded here, and so is how long the sender
// may pause and how slow it may be, for it holds the one place that there is. The
// answer may take as long as the work does.
func (c *call) upload() (io.Reader, error) {
	if length := c.r.ContentLength; length > c.route.upload {
		return nil, bodyTooLarge(c.route.upload)
	}
	if kind := c.r.Header.Get("Content-Type"); kind != "" && !strings.EqualFold(kind, client.SnapshotType) && !strings.EqualFold(kind, "application/octet-stream") {
		return nil, invalid("Content-Type", quote(kind)+" is not "+client.SnapshotType)
	}
	control := http.NewResponseController(c.w)
	for _, lift := range []func(time.Time) error{control.SetReadDeadline, control.SetWriteDeadline} {
		if err := lift(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return nil, fmt.Errorf("upload: %w", err)
		}
	}
	return &upload{c: c, control: control, left: c.route.upload}, nil
}

// upload is a body on its way to the node.
type upload struct {
	c       *call
	control *http.ResponseController
	left    int64 // bytes that may still come
	got     int64
	waited  time.Duration // for the sender; what the reader takes does not count
}

const (
	// minUpload is the least a sender must keep up, bytes a second: a line of half
	// a megabit does, and the largest backup takes a bounded time.
	minUpload = 64 << 10
	// uploadGrace is for what is slow at the start of a connection.
	uploadGrace = 30 * time.Second
)

// tooSlow tells whether a sender that was waited for so long sent too little.
func tooSlow(got int64, waited time.Duration) bool {
	return waited > uploadGrace && float64(got) < minUpload*(waited-uploadGrace).Seconds()
}

// Read implements io.Reader.
func (u *upload) Read(p []byte) (int, error) {
	if err := u.control.SetReadDeadline(time.Now().Add(readTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, fmt.Errorf("upload: %w", err)
	}
	began := time.Now()
	n, err := u.c.r.Body.Read(p)
	u.waited, u.got = u.waited+time.Since(began), u.got+int64(n)
	if tooSlow(u.got, u.waited) {
		return 0, invalid("body", fmt.Sprintf("%d bytes came in %s, less than %d a second: send it over a faster line", u.got, u.waited.Round(time.Second), minUpload))
	}
	if u.left -= int64(n); u.left < 0 {
		return 0, bodyTooLarge(u.c.route.upload)
	}
	if err == nil {
		return n, nil
	}
	// A deadline that passes later would cancel the request.
	_ = u.control.SetReadDeadline(time.Time{}) // a connection that is gone needs none
	if errors.Is(err, io.EOF) {
		return n, io.EOF
	}
	return n, invalid("body", "the body broke off, or did not arrive in time")
}
