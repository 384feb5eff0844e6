package edge

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
)

const (
	// askTime bounds one question to a member.
	askTime = 5 * time.Second
	// maxPageBytes bounds a page: coordinators end theirs at one megabyte of events.
	maxPageBytes = 4 << 20
)

// HTTPSource asks a member over HTTP: a coordinator's API with a token, or another edge's pages, which have the same paths, with a certificate.
type HTTPSource struct {
	ID   string
	Base string // such as https://10.0.0.1:4301
	Do   func(*http.Request) (*http.Response, error)
}

// Name implements Source.
func (s *HTTPSource) Name() string { return s.ID }

func (s *HTTPSource) get(ctx context.Context, path string, query url.Values, most int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	target := s.Base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, err
	}
	resp, err := s.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, most+1))
	if err != nil {
		return nil, fmt.Errorf("GET %s: %w", path, err)
	}
	if int64(len(body)) > most {
		return nil, fmt.Errorf("GET %s: %w: more than %d bytes", path, errSource, most)
	}
	if resp.StatusCode != http.StatusOK {
		var p client.Problem
		if json.Unmarshal(body, &p) == nil && client.KnownCode(p.Code) {
			return nil, fmt.Errorf("GET %s: %w", path, p.Error())
		}
		return nil, fmt.Errorf("GET %s: status %d", path, resp.StatusCode)
	}
	return body, nil
}

func getJSON[T any](ctx context.Context, s *HTTPSource, path string, query url.Values) (out T, err error) {
	body, err := s.get(ctx, path, query, maxPageBytes)
	if err == nil {
		if err = json.Unmarshal(body, &out); err != nil {
			err = fmt.Errorf("GET %s: %w: %w", path, errSource, err)
		}
	}
	return out, err
}

// Checkpoint implements Source.
func (s *HTTPSource) Checkpoint(ctx context.Context) ([]byte, error) {
	return s.get(ctx, "/v1/blacklist/checkpoint", nil, checkpoint.MaxNoteBytes)
}

// Cosigners implements Source.
func (s *HTTPSource) Cosigners(ctx context.Context, from uint64) (notes [][]byte, err error) {
	out, err := getJSON[cosignerPage](ctx, s, "/v1/blacklist/cosigners", url.Values{"from": {strconv.FormatUint(from, 10)}})
	for _, set := range out.Sets {
		notes = append(notes, []byte(set.Note))
	}
	return notes, err
}

// Events implements Source.
func (s *HTTPSource) Events(ctx context.Context, from uint64, limit int) (events [][]byte, err error) {
	page, err := getJSON[client.ChainPage](ctx, s, "/v1/blacklist/events", url.Values{"from": {strconv.FormatUint(from, 10)}, "limit": {strconv.Itoa(limit)}})
	for i, e := range page.Events {
		if e.Seq != from+uint64(i) {
			return nil, fmt.Errorf("%w: event %d where %d belongs", errSource, e.Seq, from+uint64(i))
		}
		events = append(events, e.Event)
	}
	return events, err
}

// Keys implements Source.
func (s *HTTPSource) Keys(ctx context.Context) (keys []crypto.PublicKey, err error) {
	out, err := getJSON[client.MeshPeers](ctx, s, "/mesh/peers", nil)
	for _, p := range out.Peers {
		key, err := crypto.ParsePublicKeyPEM(p.PublicKeyPEM)
		if err != nil {
			return nil, fmt.Errorf("%w: the key of %.80q: %w", errSource, p.PeerID, err)
		}
		keys = append(keys, key)
	}
	return keys, err
}
