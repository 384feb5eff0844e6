//go:build !planted

package cmd

// plantedBuild tells whether bugs are planted in this build.
const plantedBuild = false
