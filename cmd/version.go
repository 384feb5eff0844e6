package cmd

import (
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"
)

// versionView is the JSON of `version`.
type versionView struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Modified bool   `json:"modified,omitempty"` // built from changed files
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Planted  bool   `json:"planted,omitempty"` // it has planted bugs
}

func (p *program) versionCommand() *cli.Command {
	return &cli.Command{
		Name: "version", Usage: "what this binary is",
		UsageText: "edgecoder version", Description: "Example:\n  edgecoder version --format json",
		Action: func(c *cli.Context) error {
			if _, err := operands(c); err != nil {
				return err
			}
			v := buildVersion()
			return p.emit(c, v, func(t *table) {
				t.row("version", v.Version)
				t.row("commit", orDash(v.Commit))
				t.row("go", v.Go)
				t.row("platform", v.Platform)
				if v.Planted {
					t.row("WARNING", plantedText)
				}
			})
		},
	}
}

func buildVersion() versionView {
	v := versionView{Version: Version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Planted: plantedBuild}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}
