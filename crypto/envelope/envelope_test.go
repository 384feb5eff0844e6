package envelope

import (
	"bytes"
	"crypto/ecdh"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
)

// seed is endless randomness of one byte.
type seed byte

func (s seed) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(s)
	}
	return len(p), nil
}

func testKey(t testing.TB, b byte) *ecdh.PrivateKey {
	t.Helper()
	key, err := crypto.GenerateEncryptionKey(seed(b))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func testSigner(t testing.TB, b byte) (crypto.PrivateKey, crypto.PublicKey) {
	t.Helper()
	key, err := crypto.GenerateKey(seed(b))
	if err != nil {
		t.Fatal(err)
	}
	return key, crypto.PublicOf(key)
}

func testClear() Clear {
	priority := 0
	return Clear{"task-1:ünï", Metadata{ResourceClass: "gpu", Priority: &priority, Language: "c++", TimeoutMs: 60000}}
}

// version is one version of task envelopes with its keys.
type version struct {
	name    string
	agent   *ecdh.PrivateKey
	seal    func(c Clear, payload []byte) ([]byte, *Session, error)
	open    func(text []byte) (*Opened, error)
	asOther func(text []byte) (*Opened, error) // with another recipient's key
}

func versions(t testing.TB) []version {
	agent, other := testKey(t, 1), testKey(t, 2)
	signer, sender := testSigner(t, 3)
	_, another := testSigner(t, 4)
	senders := []crypto.PublicKey{another, sender}
	return []version{
		{"v1", agent,
			func(c Clear, p []byte) ([]byte, *Session, error) { return SealV1(seed(5), agent.PublicKey(), c, p) },
			func(text []byte) (*Opened, error) { return OpenV1(agent, text) },
			func(text []byte) (*Opened, error) { return OpenV1(other, text) }},
		{"v2", agent,
			func(c Clear, p []byte) ([]byte, *Session, error) { return SealV2(signer, agent.PublicKey(), c, p) },
			func(text []byte) (*Opened, error) { return OpenV2(agent, senders, text) },
			func(text []byte) (*Opened, error) { return OpenV2(other, senders, text) }},
	}
}

// exchange seals a task, opens it and seals its result.
func (v version) exchange(t testing.TB) (task []byte, s *Session, o *Opened, result []byte) {
	t.Helper()
	task, s, err := v.seal(testClear(), []byte("task"))
	if err == nil {
		o, err = v.open(task)
	}
	if err == nil {
		result, err = o.SealResult(seed(6), []byte("result"))
	}
	if err != nil {
		t.Fatalf("%s: %v", v.name, err)
	}
	return task, s, o, result
}

func TestRoundTrip(t *testing.T) {
	for _, v := range versions(t) {
		for _, c := range []Clear{testClear(), {SubtaskID: "x"}} {
			for _, size := range []int{0, 1, 15, 16, 17, 1000, MaxPayloadBytes} {
				task, answer := bytes.Repeat([]byte("t"), size), bytes.Repeat([]byte("a"), size)
				text, session, err := v.seal(c, task)
				if err != nil || len(text) > MaxTextBytes {
					t.Fatalf("%s, %d bytes: %d bytes of text, %v", v.name, size, len(text), err)
				}
				opened, err := v.open(text)
				if err != nil || !bytes.Equal(opened.Payload, task) || !equalJSON(t, opened.Clear, c) {
					t.Fatalf("%s, %d bytes: %v", v.name, size, err)
				}
				result, err := opened.SealResult(seed(6), answer)
				if err != nil || len(result) > MaxTextBytes {
					t.Fatalf("%s, %d bytes: %v", v.name, size, err)
				}
				if got, err := session.OpenResult(result); err != nil || !bytes.Equal(got, answer) {
					t.Fatalf("%s, %d bytes: %v", v.name, size, err)
				}
			}
		}
	}
}

func equalJSON(t *testing.T, a, b any) bool {
	t.Helper()
	return fmt.Sprint(mustJSON(t, a)) == fmt.Sprint(mustJSON(t, b))
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestOneResult: a key seals one result and opens one, and what does not open does not use it up.
func TestOneResult(t *testing.T) {
	for _, v := range versions(t) {
		text, session, opened, result := v.exchange(t)
		if _, err := opened.SealResult(seed(7), []byte("another")); !errors.Is(err, ErrUsed) {
			t.Errorf("%s: sealed a second result: %v", v.name, err)
		}
		for _, bad := range [][]byte{nil, text, []byte("{}"), result[1:], bytes.Repeat([]byte(" "), MaxTextBytes+1)} {
			if _, err := session.OpenResult(bad); err == nil || errors.Is(err, ErrUsed) {
				t.Errorf("%s: opened %.60q: %v", v.name, bad, err)
			}
		}
		if got, err := session.OpenResult(result); err != nil || string(got) != "result" {
			t.Errorf("%s: %q, %v", v.name, got, err)
		}
		if _, err := session.OpenResult(result); !errors.Is(err, ErrUsed) {
			t.Errorf("%s: opened twice: %v", v.name, err)
		}
	}
}

// TestV1RefusesItsOwnTaskAsResult: one key serves both directions, so the task verifies as a result.
func TestV1RefusesItsOwnTaskAsResult(t *testing.T) {
	text, session, err := SealV1(seed(5), testKey(t, 1).PublicKey(), testClear(), []byte("task"))
	if err != nil {
		t.Fatal(err)
	}
	var reflected ResultV1
	if err := json.Unmarshal(text, &reflected); err != nil {
		t.Fatal(err)
	}
	if _, err := session.OpenResult(reflected.JSON()); !errors.Is(err, ErrNotAuthentic) {
		t.Errorf("%v", err)
	}
	opened, err := OpenV1(testKey(t, 1), text)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := opened.SealResult(seed(5), nil); !errors.Is(err, errRepeatedNonce) {
		t.Errorf("sealed under the nonce of the task: %v", err)
	}
}

// TestWrongKey: version 2 can say that the key is wrong, version 1 only that nothing verifies.
func TestWrongKey(t *testing.T) {
	for _, v := range versions(t) {
		text, _, err := v.seal(testClear(), []byte("task"))
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]error{"v1": ErrNotAuthentic, "v2": ErrWrongKey}[v.name]
		if o, err := v.asOther(text); !errors.Is(err, want) || o != nil {
			t.Errorf("%s: %v", v.name, err)
		}
	}
}

func TestV2WantsAKnownSender(t *testing.T) {
	agent := testKey(t, 1)
	signer, sender := testSigner(t, 3)
	thief, thiefKey := testSigner(t, 4)
	text, _, err := SealV2(signer, agent.PublicKey(), testClear(), []byte("task"))
	if err != nil {
		t.Fatal(err)
	}
	if o, err := OpenV2(agent, []crypto.PublicKey{sender}, text); err != nil || o.Sender != sender.KeyID() {
		t.Errorf("%v", err)
	}
	for _, senders := range [][]crypto.PublicKey{nil, {thiefKey}} {
		if _, err := OpenV2(agent, senders, text); !errors.Is(err, ErrWrongSender) {
			t.Errorf("%v", err)
		}
	}
	// Another signature over the same ciphertext makes it nobody's: the sender's key is in HPKE's info.
	e, err := parseTaskV2(text)
	if err != nil {
		t.Fatal(err)
	}
	e.sender = thiefKey.KeyID()
	e.signature = crypto.SignText(thief, signLabelV2, contextV2(thiefKey, agent.PublicKey()), e.aad(), e.enc, e.payload)
	if _, err := OpenV2(agent, []crypto.PublicKey{sender, thiefKey}, e.json()); !errors.Is(err, ErrNotAuthentic) {
		t.Errorf("taken over by another sender: %v", err)
	}
}

// TestV2ResultsDoNotSwap: a result answers its own task and comes from its own agent.
func TestV2ResultsDoNotSwap(t *testing.T) {
	signer, sender := testSigner(t, 3)
	answer := func(agent byte, id string) (*Session, []byte) {
		text, session, err := SealV2(signer, testKey(t, agent).PublicKey(), Clear{SubtaskID: id}, nil)
		if err != nil {
			t.Fatal(err)
		}
		opened, err := OpenV2(testKey(t, agent), []crypto.PublicKey{sender}, text)
		if err != nil {
			t.Fatal(err)
		}
		result, err := opened.SealResult(seed(6), []byte("result"))
		if err != nil {
			t.Fatal(err)
		}
		return session, result
	}
	session, _ := answer(1, "a")
	_, otherAgent := answer(2, "a")
	_, otherTask := answer(1, "b")
	_, sameNames := answer(1, "a")
	for name, tt := range map[string]struct {
		result []byte
		want   error
	}{
		"another agent": {otherAgent, ErrWrongSender}, "another subtask": {otherTask, ErrNotAuthentic}, "another key": {sameNames, ErrNotAuthentic},
	} {
		if _, err := session.OpenResult(tt.result); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// flip calls try with text after each single bit of it was changed.
func flip(text []byte, try func(bit int, changed []byte)) {
	for bit := range len(text) * 8 {
		text[bit/8] ^= 1 << (bit % 8)
		try(bit, text)
		text[bit/8] ^= 1 << (bit % 8)
	}
}

// TestFlipEveryBitV1: of a version 1 task every bit counts but those of metadata, which the format leaves out. There a
// flip may say another resource class, priority, language or timeout within bounds, and nothing else.
func TestFlipEveryBitV1(t *testing.T) {
	v := versions(t)[0]
	text, _, err := v.seal(testClear(), []byte(`{"input":"x","snapshotRef":"","kind":"c++"}`))
	if err != nil {
		t.Fatal(err)
	}
	metadata := bytes.Index(text, []byte(`"metadata":{`)) + len(`"metadata":{`)
	changed := map[string]int{}
	flip(text, func(bit int, text []byte) {
		o, err := v.open(text)
		if err != nil {
			return
		}
		m, was := o.Clear.Metadata, testClear().Metadata
		switch {
		case bit/8 < metadata:
			t.Errorf("bit %d of byte %d (%q) does not count", bit%8, bit/8, text[bit/8])
		case m.ResourceClass != was.ResourceClass: // one bit makes cpu of gpu
			changed["resourceClass"]++
		case m.Language != was.Language:
			changed["language"]++
			if _, err := o.Task(); !errors.Is(err, ErrNotAuthentic) {
				t.Errorf("language %q: %v", m.Language, err)
			}
		case *m.Priority != *was.Priority:
			changed["priority"]++
		case m.TimeoutMs != was.TimeoutMs:
			changed["timeoutMs"]++
		default:
			t.Errorf("bit %d of byte %d (%q) does not count", bit%8, bit/8, text[bit/8])
		}
	})
	if len(changed) != 4 {
		t.Errorf("flips changed %v", changed)
	}
}

func TestFlipEveryBitV2(t *testing.T) {
	v := versions(t)[1]
	text, _, err := v.seal(testClear(), []byte("task"))
	if err != nil {
		t.Fatal(err)
	}
	flip(text, func(bit int, text []byte) {
		if _, err := v.open(text); err == nil {
			t.Errorf("bit %d of byte %d does not count", bit%8, bit/8)
		}
	})
}

// TestV2HPKEBindsAllByItself changes one part of an envelope and signs it again: HPKE must refuse without the help of the
// signature.
func TestV2HPKEBindsAllByItself(t *testing.T) {
	agent := testKey(t, 1)
	signer, sender := testSigner(t, 3)
	text, _, err := SealV2(signer, agent.PublicKey(), testClear(), []byte("task"))
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(e *taskV2){
		"subtask":        func(e *taskV2) { e.clear.SubtaskID = "task-2" },
		"resource class": func(e *taskV2) { e.clear.Metadata.ResourceClass = "cpu" },
		"priority":       func(e *taskV2) { e.clear.Metadata.Priority = nil },
		"language":       func(e *taskV2) { e.clear.Metadata.Language = "c" },
		"timeout":        func(e *taskV2) { e.clear.Metadata.TimeoutMs++ },
		"enc":            func(e *taskV2) { e.enc[0]++ },
		"payload":        func(e *taskV2) { e.payload[0]++ },
		"tag":            func(e *taskV2) { e.payload[len(e.payload)-1]++ },
	} {
		e, err := parseTaskV2(text)
		if err != nil {
			t.Fatal(err)
		}
		change(e)
		e.signature = crypto.SignText(signer, signLabelV2, contextV2(sender, agent.PublicKey()), e.aad(), e.enc, e.payload)
		if _, err := OpenV2(agent, []crypto.PublicKey{sender}, e.json()); !errors.Is(err, ErrNotAuthentic) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFlipEveryBitOfResults(t *testing.T) {
	for _, v := range versions(t) {
		_, session, _, result := v.exchange(t)
		flip(result, func(bit int, result []byte) {
			if _, err := session.OpenResult(result); err == nil || errors.Is(err, ErrUsed) {
				t.Fatalf("%s: bit %d of byte %d: %v", v.name, bit%8, bit/8, err)
			}
		})
	}
}

func TestPrintsNoSecrets(t *testing.T) {
	for _, v := range versions(t) {
		text, session, err := v.seal(testClear(), []byte("secret payload"))
		if err != nil {
			t.Fatal(err)
		}
		opened, err := v.open(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
			shown := fmt.Sprintf(verb+verb+verb+verb, session, *session, opened, *opened)
			for _, secret := range []any{session.key, opened.Payload} {
				if strings.Contains(shown, fmt.Sprint(secret)) || strings.Contains(shown, fmt.Sprintf("%s", secret)) || strings.Contains(shown, fmt.Sprintf("%#v", secret)) {
					t.Errorf("%s, %s: %s", v.name, verb, shown)
				}
			}
		}
	}
}
