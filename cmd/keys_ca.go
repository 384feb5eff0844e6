package cmd

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/crypto/keyfile"
)

func (p *program) keysCACommand() *cli.Command {
	return &cli.Command{
		Name: "ca", Usage: "the CA certificates that clients should trust now",
		UsageText: "edgecoder keys ca [--out FILE]",
		Description: "While the cluster's CA is rotated there are several; a file from before the rotation works until its overlap ends.\n" +
			"With --out the file is replaced. The cluster is asked with the CA file given so far, so the answer is the cluster's own.\n\n" +
			"Examples:\n  edgecoder keys ca --out \"$EDGECODER_CA\"\n  edgecoder keys ca --format json",
		Flags:  []cli.Flag{&cli.StringFlag{Name: "out", Usage: "`FILE` to replace with the certificates"}, strongFlag()},
		Action: p.keysCA,
	}
}

func (p *program) keysCA(c *cli.Context) error {
	_, api, err := p.ask(c)
	if err != nil {
		return err
	}
	cas, err := api.CAs(c.Context, freshness(c)...)
	if err != nil {
		return err
	}
	path := c.String("out")
	if path != "" {
		if err := replaceCA(path, cas.Bundle()); err != nil {
			return fmt.Errorf("--out: %w", err)
		}
	}
	return p.emit(c, cas, func(t *table) {
		if path == "" {
			for line := range strings.Lines(cas.Bundle()) {
				t.row(strings.TrimSuffix(line, "\n"))
			}
			return
		}
		for _, ca := range cas.CAs {
			ends := "no end set"
			if ca.EndsMs != 0 {
				ends = "until " + t.when(ca.EndsMs)
			}
			t.row("ca", ca.ID, ca.State, ends)
		}
	})
}

// replaceCA replaces a CA file, or the one that a link leads to.
func replaceCA(path, bundle string) error {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return keyfile.WriteAtomic(path, []byte(bundle))
}
