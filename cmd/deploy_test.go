package cmd

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const deployDir = "../deploy/"

func TestDeployedSettingsAreGood(t *testing.T) {
	if plantedBuild {
		t.Skip("the example has real addresses, which a build with planted bugs refuses; every other build runs this, make test and CI among them")
	}
	cleanEnv(t)
	t.Setenv("EDGECODER_PASSPHRASE", "long enough")
	s, r := checkConfig(t, "--config", deployDir+"edgecoder.yaml")
	wantStatus(t, r, exitDone)
	if s.DataDir != "/var/lib/edgecoder" || !s.Bootstrap || s.LogFormat != "json" {
		t.Errorf("%+v", s)
	}
	text, err := os.ReadFile(deployDir + "edgecoder.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for i := range reflect.TypeFor[serverSettings]().NumField() {
		name := reflect.TypeFor[serverSettings]().Field(i).Tag.Get("yaml")
		if name != "-" && !strings.Contains(string(text), "\n"+name+":") && !strings.Contains(string(text), "\n# "+name+":") {
			t.Errorf("the example does not tell of %s", name)
		}
	}
}

// TestDeployedUnit asks systemd itself whether it understands the unit, and how
// much of the machine the service could reach.
func TestDeployedUnit(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed, and only systemd can judge a unit (CI installs it)")
	}
	text, err := os.ReadFile(deployDir + "edgecoder.service")
	if err != nil {
		t.Fatal(err)
	}
	unit := filepath.Join(t.TempDir(), "edgecoder.service")
	installed := strings.ReplaceAll(string(text), "/usr/local/bin/edgecoder", "/bin/true") // it must be there
	if err := os.WriteFile(unit, []byte(installed), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(analyze, "verify", "--man=no", unit).CombinedOutput(); err != nil || strings.Contains(string(out), unit) {
		t.Errorf("verify: %v\n%s", err, out)
	}
	const exposure = "15" // in tenths; systemd calls up to 2.0 "OK", a plain service has 9.6
	if out, err := exec.Command(analyze, "security", "--offline=yes", "--threshold="+exposure, unit).CombinedOutput(); err != nil {
		t.Errorf("security: %v\n%s", err, out)
	}
}
