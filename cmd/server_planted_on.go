//go:build planted

package cmd

const plantedBuild = true
